"""Where a policy stands; most directories have none, and finding that out must cost nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from dcpctl import limits
from dcpctl.documents.fields import Document
from dcpctl.documents.files import Kind, as_text, read_bytes
from dcpctl.errors import ReadFailed, UsageError, quote

NAME, PROJECT = "dcpctl.toml", "pyproject.toml"

# `[tool.dcpctl.check]`, `["tool"]` or `tool.dcpctl = ...`: only then it is worth parsing.
_MAY_SAY = re.compile(
    r"""^\s*\[\s*["']?tool["']?\s*(?:\]|\.\s*["']?dcpctl)|^\s*["']?tool["']?\s*[.=]""", re.M
)


class PolicyError(UsageError):
    """A policy that says something it cannot."""

    id = "policy"


KIND = Kind("policy", PolicyError, limits.POLICY_BYTES, "--no-policy checks without one")


def find_policy(checked: Sequence[Path], directory: Path | None = None) -> Path | None:
    """Return the policy file of a directory: `dcpctl.toml`, else a `pyproject.toml` that has one.

    No other directory is looked at: the same command in the same place reads the same file. A
    directory that is itself checked, or that lies in one, has none: a checkpoint must not bring
    along the policy that it is judged by.

    Args:
        checked: what is going to be checked.
        directory: where to look; the current one if None.

    Raises:
        ReadFailed: a file is there and cannot be read, or nobody may say whether one is.
    """
    try:
        here = Path(os.path.realpath(directory or os.curdir))
        real = {Path(os.path.realpath(path)) for path in checked}
    except OSError:  # the current directory is gone
        return None
    if real.intersection((here, *here.parents)):
        return None
    for name in (NAME, PROJECT):
        path = here / name
        if _is_file(path) and (name == NAME or _may_say(path)):
            shown = path if directory else Path(name)
            if name == NAME or document_of(shown) is not None:
                return shown
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:  # a directory that may not be searched
        raise ReadFailed(
            f"cannot look for the policy {quote(path)}: {error.strerror}",
            hint="--no-policy checks without one",
        ) from None


def _may_say(path: Path) -> bool:
    return _MAY_SAY.search(as_text(read_bytes(path, KIND), path, KIND)) is not None


def document_of(path: Path) -> Document | None:
    """Return what a policy file says; None if it is a `pyproject.toml` that says nothing of dcpctl.

    Raises:
        PolicyError: it is no TOML, too large, no file, or not UTF-8.
        ReadFailed: it cannot be read.
    """
    document = Document.of_toml(path, KIND)
    if path.name != PROJECT:
        return document
    tools = document.found.get("tool")
    return document if isinstance(tools, dict) and tools.get("dcpctl") is not None else None
