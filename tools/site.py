"""The pages of the site as one tree, which a generator turns into HTML (mkdocs.yml).

The README is the site's first page, and the changelog and the rules' pages are pages of it, though
they stand elsewhere in the repository. Links between pages lead to pages, all others to the file in
the repository. Nothing here knows the generator.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import tomli

from tools import console

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = "docs"
RULES = "dcpctl/check/pages"
SCHEMAS = "dcpctl/_data"
#: The page on which all rules are to be listed, and where on it.
RULES_PAGE, RULES_MARK = "rules.md", "<!-- all rules -->"
_LINK = re.compile(r"(?<=\]\()(?!#|[a-z]+:)([^)\s#]+)(#[^)\s]*)?(?=\))")
_CODE = re.compile(f"{console.FENCED}|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def pages() -> dict[str, str]:
    """Return file in the repository -> page of the site, as paths with slashes."""
    found = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
    for path in sorted((REPOSITORY / DOCS).rglob("*.md")):
        name = path.relative_to(REPOSITORY).as_posix()
        found[name] = name.removeprefix(f"{DOCS}/")
    for path in sorted((REPOSITORY / RULES).glob("DCP*.md")):
        found[f"{RULES}/{path.name}"] = f"rules/{path.name}"
    return found


def schemas() -> dict[str, str]:
    """Return JSON Schema in the repository -> file of the site, which has them at their `$id`."""
    paths = sorted((REPOSITORY / SCHEMAS).glob("*.schema.json"))
    return {f"{SCHEMAS}/{path.name}": f"schemas/{path.name}" for path in paths}


def write_pages(directory: Path, repository_url: str) -> None:
    """Write the tree of pages, and what in docs/ is no page, into a directory.

    Args:
        directory: an empty one.
        repository_url: where links to files that are no pages lead.
    """
    shutil.copytree(REPOSITORY / DOCS, directory, dirs_exist_ok=True)
    known = {**pages(), **schemas()}
    for name, file in schemas().items():
        (directory / file).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, directory / file)
    for name, page in pages().items():
        text = (REPOSITORY / name).read_text()
        if page == RULES_PAGE:
            text = text.replace(RULES_MARK, _rules())
        to = directory / page
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(_linked(text, name, known, repository_url))


def build(directory: Path) -> bool:
    """Build the site into a directory, warnings being errors; return whether that went well."""
    if find_spec("mkdocs") is None:
        print("the site needs more packages: pip install -e '.[docs]'", file=sys.stderr)
        return False
    with tempfile.TemporaryDirectory(prefix="dcpctl-site-") as temporary:
        write_pages(Path(temporary), _repository_url())
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--clean"]
        environment = {**os.environ, "DCPCTL_PAGES": temporary, "NO_MKDOCS_2_WARNING": "1"}
        done = subprocess.run(
            [*command, "--site-dir", directory.resolve()],
            cwd=REPOSITORY,
            env=environment,
            check=False,
        )
    return done.returncode == 0


def _repository_url() -> str:
    project = tomli.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    url: str = project["urls"]["Homepage"]
    return url


def _linked(text: str, name: str, known: dict[str, str], repository_url: str) -> str:
    """A page whose links lead where they should, as seen from the site."""
    here = PurePosixPath(known[name]).parent

    def link(match: re.Match[str]) -> str:
        target = os.path.normpath(PurePosixPath(name).parent / match[1])
        if target in known:
            address = os.path.relpath(known[target], here)
        elif target.startswith(f"{DOCS}/"):
            address = os.path.relpath(target.removeprefix(f"{DOCS}/"), here)
        else:
            kind = "tree" if (REPOSITORY / target).is_dir() else "blob"
            address = f"{repository_url}/{kind}/main/{target}"
        return address + (match[2] or "")

    return "".join(part if code else _LINK.sub(link, part) for part, code in _parts(text))


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """What is prose and what is code, in turn."""
    at = 0
    for match in _CODE.finditer(text):
        yield text[at : match.start()], False
        yield match[0], True
        at = match.end()
    yield text[at:], False


def _rules() -> str:
    """A table of all rules, which would be out of date in a page of its own."""
    from dcpctl.check.registry import all_rules

    rows = ["| rule | severity | finds |", "|---|---|---|"]
    for rule in all_rules():
        mark = " \\*" if rule.security else ""
        title = re.sub(r"([*<>|\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", rule.title)
        rows.append(f"| [{rule.id}](rules/{rule.id}.md){mark} | {rule.severity} | {title} |")
    return "\n".join(rows)
