"""Findings in plain sentences, and the files they lie in, for formats that other programs read."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path, PurePosixPath

from dcpctl.check.finding import CheckResult, Finding
from dcpctl.errors import printable
from dcpctl.reports.check_blocks import where


def place(result: CheckResult, finding: Finding) -> str:
    """Return the file that a finding lies in, relative to the checkpoint.

    A finding about the structure lies in the metadata. So does one whose file a hostile checkpoint
    has outside itself: nobody shall be led there.
    """
    named = finding.file or ""
    inside = named and not named.startswith("/") and ".." not in PurePosixPath(named).parts
    return named if inside else result.metadata_file


def relative(path: Path) -> Path:
    """Return a path as seen from the working directory if it lies below it, else from the root.

    Symbolic links stay as they are: the reader knows the path that was asked for.
    """
    return _seen_from(Path.cwd(), path)


@lru_cache(maxsize=1024)  # thousands of findings lie in one file
def _seen_from(directory: Path, path: Path) -> Path:
    whole = Path(os.path.normpath(directory / path))
    return whole.relative_to(directory) if whole.is_relative_to(directory) else whole


def sentence(finding: Finding) -> str:
    """Return subject, message and place of a finding in one line without unprintable characters."""
    return printable(f"{finding.subject}: {finding.message}{where(finding)}")
