"""Console examples in Markdown: find them, run them, compare, write them anew.

An example is a fenced block of language `console`: lines that begin with `$ ` are commands, what
follows each is what it prints, standard output and error together. A line that is only `...`
stands for any number of lines; blank lines before the next command are not compared.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Every example is shown at this width and without colour, whoever runs it.
COLUMNS = 100
#: What examples read, and might change.
SAMPLES = "sample_checkpoints"
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
    for number, line in enumerate(markdown.splitlines(), 1):
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
def workplace(repository: Path) -> Iterator[Path]:
    """Give a directory that looks like the repository, for examples that write.

    The samples in it are copies, all else are links, and what examples leave is gone afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="dcpctl-docs-") as directory:
        place = Path(directory)
        for entry in repository.iterdir():
            if entry.name == SAMPLES:
                shutil.copytree(entry, place / SAMPLES)
            elif not entry.name.startswith("."):
                (place / entry.name).symlink_to(entry)
        yield place


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
