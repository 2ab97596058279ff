"""Console examples in Markdown: find them, run them, compare, write them anew.

An example is a fenced block of language `console`: lines that begin with `$ ` are commands, what
follows each is what it prints, standard output and error together. A line that is only `...`
stands for any number of lines; blank lines before the next command are not compared.

A fenced block whose language is followed by `title="PATH"` is a file, which stands in the directory
where the examples of its document run: a worked example is code that works. In a JSON file that is
there already its members are added to those of the file, and a `pyproject.toml` below that
directory has its entry points found, as if `pip install` had been run.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

#: Every example is shown at this width and without colour, whoever runs it.
COLUMNS = 100
#: What examples read, and might change.
SAMPLES = "sample_checkpoints"
#: A fenced block; a fence of more backticks may have fences of fewer inside.
FENCED = r"^(?P<fence>`{3,})[^\n]*\n.*?^(?P=fence)$"
_CACHES = shutil.ignore_patterns("__pycache__")
#: Seconds that one example may take.
TIMEOUT = 120


@dataclass(frozen=True)
class Example:
    """One command and what the document says that it prints."""

    line: int
    """Number of the command's line in the document, from 1."""
    command: str
    """What follows `$ `, continuation lines joined as they stand."""
    shown: list[str]
    """The lines below it."""


def examples(markdown: str) -> list[Example]:
    """Return the examples of a document in order."""
    found: list[Example] = []
    inside = False
    within = False  # a file that is shown may have blocks of its own
    for number, line in enumerate(markdown.splitlines(), 1):
        within ^= line.startswith("````")
        if within:
            continue
        if line.startswith("```"):
            inside = line.strip() == "```console"
        elif inside and line.startswith("$ "):
            found.append(Example(number, line[2:], []))
        elif inside and found:
            found[-1].shown.append(line)
    for example in found:
        while example.shown and not example.shown[-1].strip():
            example.shown.pop()  # blank lines that separate it from the next
    return found


def files(markdown: str) -> dict[str, str]:
    """Return the files that a document shows, by the paths in their titles."""
    blocks = re.finditer(r'^(`{3,})\w+ title="([^"]+)"\n(.*?)^\1$', markdown, re.M | re.S)
    return {block[2]: block[3] for block in blocks}


def without_code(markdown: str) -> str:
    """Return a document without its fenced blocks and what stands between backticks."""
    return re.sub(f"{FENCED}|`[^`\n]+`", "", markdown, flags=re.M | re.S)


@contextmanager
def shell(repository: Path) -> Iterator[dict[str, str]]:
    """Give an environment in which `dcpctl` is this tree's, run by this interpreter."""
    with tempfile.TemporaryDirectory(prefix="dcpctl-docs-") as directory:
        script = Path(directory) / "dcpctl"
        python = shlex.quote(sys.executable)
        script.write_text(f'#!/bin/sh\nexec {python} -m dcpctl "$@"\n')
        script.chmod(0o755)
        keep = {
            name: value
            for name, value in os.environ.items()
            if name not in ("FORCE_COLOR", "TERM", "PYTHONWARNINGS")
        }
        yield {
            **keep,
            "PATH": f"{directory}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(repository),
            "COLUMNS": str(COLUMNS),
            "NO_COLOR": "1",
            "TERM": "dumb",
        }


@contextmanager
def workplace(repository: Path, shown: Mapping[str, str] | None = None) -> Iterator[Path]:
    """Give a directory that looks like the repository, for examples that write.

    The samples in it are copies, all else are links, and what examples leave is gone afterwards.

    Args:
        repository: the working tree.
        shown: files to write into the directory, by their paths; what they would be written to is
            then a copy too.
    """
    copied = {SAMPLES, *(Path(name).parts[0] for name in shown or ())}
    with tempfile.TemporaryDirectory(prefix="dcpctl-docs-") as directory:
        place = Path(directory)
        for entry in repository.iterdir():
            if entry.name in copied:
                shutil.copytree(entry, place / entry.name, ignore=_CACHES)
            elif not entry.name.startswith("."):
                (place / entry.name).symlink_to(entry)
        for name, text in (shown or {}).items():
            _put(place, name, text)
        yield place


def _put(place: Path, name: str, text: str) -> None:
    """Write a file that a document shows."""
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json" and path.exists():
        text = json.dumps({**json.loads(path.read_text()), **json.loads(text)}, indent=1)
    path.write_text(text)
    if path.name == "pyproject.toml":
        _install(path.parent, place, tomli.loads(text)["project"])


def _install(package: Path, place: Path, project: dict[str, Any]) -> None:
    """Have the entry points of a package found by programs that run in `place`."""
    info = place / f"{project['name'].replace('-', '_')}-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for module in package.glob("*.py"):
        (place / module.name).symlink_to(module)


def run(example: Example, place: Path, environment: dict[str, str]) -> list[str]:
    """Return the lines that the example's command prints in `place`.

    Raises:
        subprocess.TimeoutExpired: it took longer than `TIMEOUT`.
    """
    done = subprocess.run(
        ["bash", "-c", example.command],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return [line.rstrip() for line in done.stdout.rstrip("\n").split("\n")] if done.stdout else []


def matches(shown: list[str], printed: list[str]) -> bool:
    """Return whether the printed lines are those shown, `...` standing for any number."""
    pattern = "".join(
        r"(?:[^\n]*\n)*" if line.strip() == "..." else re.escape(line.rstrip()) + r"\n"
        for line in shown
    )
    return re.fullmatch(pattern, "".join(line + "\n" for line in printed)) is not None


def rewritten(markdown: str, outputs: dict[int, list[str]]) -> str:
    """Return the document with what the examples print replaced.

    Args:
        markdown: the document.
        outputs: line number of an example's command -> the lines to show below it.
    """
    lines = markdown.splitlines()
    for example in reversed(examples(markdown)):
        if example.line in outputs:
            end = example.line + len(example.shown)
            lines[example.line : end] = outputs[example.line]
    return "\n".join(lines) + "\n"
