"""The documentation is complete, its made parts are what the program makes, and its site builds."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomli
from typer.testing import CliRunner

import dcpctl
from dcpctl.cli.app import app
from dcpctl.documents import addresses
from tools import console, docs, reference, site


def test_every_command_has_its_page() -> None:
    assert [*docs.missing_pages()] == []


@pytest.mark.parametrize("document", docs.documents(), ids=lambda document: document.name)
def test_a_page_is_what_the_program_makes_and_leads_somewhere(document: docs.Document) -> None:
    assert [*docs.static_problems(document)] == []


def test_made_parts_are_made_anew() -> None:
    old = "before\n<!-- made: verbs -->\nold\n<!-- end -->\nafter\n"
    made = reference.renewed(old, "there/")
    assert re.match(r"before\n<!-- made: verbs -->\n\n\| verb \| does \|", made)
    assert made.endswith("|\n\n<!-- end -->\nafter\n")
    assert (
        "| [undo](there/undo.md) | Take back the last edit that was made with `--in-place`." in made
    )
    assert "`dcpctl undo out/edited`" in made
    assert reference.renewed(made, "there/") == made


def test_options_are_those_of_the_help() -> None:
    made = reference.renewed("<!-- made: options check -->\n<!-- end -->", "")
    assert "| `-j, --jobs N` | How much at once." in made
    assert "| `--color auto\\|always\\|never` | When to use colours. \\[default: auto\\] |" in made
    assert "\n| Gate | |\n" in made
    made = reference.renewed("<!-- made: help set -->\n<!-- end -->", "")
    assert "dcpctl set SRC [DST] [KEY=VALUE]... [OPTIONS]\n" in made


def test_every_public_name_is_in_the_python_reference(repository: Path) -> None:
    page = (repository / "docs/python.md").read_text()
    names = [name for name in dcpctl.__all__ if not name.startswith("_")]
    assert "open_checkpoint" in names
    assert [name for name in names if not re.search(rf"\b{name}\b", page)] == []


def test_fields_are_those_of_the_verbs() -> None:
    made = reference.renewed("<!-- made: fields -->\n<!-- end -->", "")
    assert "| `drop` | `keys` | text or list of texts | Keys, as a shell has it" in made
    assert '|  | `section` | `"model"` or `"optimizer"` | Only keys of this section. |' in made
    assert "\n| `reshard` | `world_size` | integer |" in made


def test_every_schema_is_in_the_reference(repository: Path) -> None:
    page = (repository / "docs/reference/index.md").read_text()
    names = [path.name for path in (repository / "dcpctl/_data").glob("*.schema.json")]
    assert len(names) > 5
    assert [name for name in names if f"({'../' * 2}dcpctl/_data/{name})" not in page] == []


def test_schemas_are_where_they_say(repository: Path, tmp_path: Path) -> None:
    site.write_pages(tmp_path, "https://repository")
    for path in (repository / "dcpctl/_data").glob("*.schema.json"):
        document = json.loads(path.read_text())
        name = path.name.removesuffix(".schema.json")
        assert document["$id"] == addresses.schema(name.replace("-", "/"))
        there = tmp_path / document["$id"].removeprefix(addresses.SITE)
        assert there.read_bytes() == path.read_bytes()


def test_the_long_readme_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "README_LINES", 3)
    (readme, *_) = docs.documents()
    assert any("lines" in problem for problem in docs.static_problems(readme))


def test_the_sites_pages_lead_to_each_other(tmp_path: Path) -> None:
    site.write_pages(tmp_path, "https://repository")
    home = (tmp_path / "index.md").read_text()
    assert "(guides/resume.md)" in home
    assert "docs/" not in re.sub(r"`[^`]*`|^```.*?^```", "", home, flags=re.M | re.S)
    rules = (tmp_path / "rules.md").read_text()
    assert "| [DCP103](rules/DCP103.md) | error | no chunk holds some elements |" in rules
    assert "| [DCP110](rules/DCP110.md) \\* |" in rules
    assert "(../rules/DCP110.md)" in (tmp_path / "guides" / "untrusted.md").read_text()
    assert "(https://repository/tree/main/sample_checkpoints)" in (
        (tmp_path / "samples.md").read_text()
    )
    for page in tmp_path.rglob("*.md"):
        assert [*docs.broken_links(page, page.read_text())] == [], page


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="ruff is not installed")
def test_the_code_of_worked_examples_is_as_ours(repository: Path, tmp_path: Path) -> None:
    shown = {
        name: text
        for page in docs.documents()
        for name, text in console.files(page.text).items()
        if name.endswith(".py")
    }
    assert "dcpctl/check/rules/balance.py" in shown
    for name, text in shown.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    ruff = (sys.executable, "-m", "ruff")
    for command in (("check",), ("format", "--diff")):
        done = subprocess.run(
            [*ruff, *command, "--config", repository / "pyproject.toml", "."],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_rules_have_an_address_that_the_site_has(repository: Path) -> None:
    (address,) = re.findall(r"^site_url: (\S+)$", (repository / "mkdocs.yml").read_text(), re.M)
    project = tomli.loads((repository / "pyproject.toml").read_text())["project"]
    assert address == addresses.SITE == project["urls"]["Documentation"]
    page = addresses.rule_page("DCP103")
    assert page == f"{address}rules/DCP103.html"
    assert page.removeprefix(address).replace(".html", ".md") in site.pages().values()
    done = CliRunner().invoke(app, ["explain", "DCP103", "--json"])
    assert json.loads(done.stdout)["page_url"] == page


def test_every_page_is_in_the_sites_navigation(repository: Path) -> None:
    navigation = (repository / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    listed = set(re.findall(r"[\w./-]+\.md$", navigation, re.MULTILINE))
    assert listed == {page for page in site.pages().values() if not page.startswith("rules/")}


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="the site needs the extra `docs`"
)
def test_the_site_builds_and_opens_offline(tmp_path: Path) -> None:
    assert site.build(tmp_path / "site")
    pages = [*(tmp_path / "site").rglob("*.html")]
    assert len(pages) == len(site.pages()) + 1  # and the page of a wrong address
    assert (tmp_path / "site" / "search" / "search_index.js").exists()  # a script: no request
    loads = re.compile(r'<(?:script|img|iframe)[^>]* src="([^"]+)"|<link[^>]* href="([^"]+)"[^>]*>')
    for page in pages:
        for match in loads.finditer(page.read_text()):
            if 'rel="canonical"' not in match[0]:
                assert not re.match(r"https?:|//", match[1] or match[2]), (page, match[0])
