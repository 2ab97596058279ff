"""Where the documentation lives, which has a page for each rule and the schema of each document."""

from __future__ import annotations

#: OWNER is a placeholder, as in pyproject.toml and mkdocs.yml.
SITE = "https://OWNER.github.io/dcpctl/"


def rule_page(rule_id: str) -> str:
    """Return where the page of a rule such as `DCP103` is."""
    return f"{SITE}rules/{rule_id}.html"


def schema(name: str) -> str:
    """Return where the JSON Schema of a document such as `dcpctl.check/1` is."""
    return f"{SITE}schemas/{name.replace('/', '-')}.schema.json"
