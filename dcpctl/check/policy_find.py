"""Where a policy stands; most directories have none, and finding that out must cost nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcpctl.errors import ReadFailed, UsageError, quote

NAME, PROJECT = "dcpctl.toml", "pyproject.toml"

_MAX_BYTES = 1 << 20
_WITHOUT = "--no-policy checks without one"
# `[tool.dcpctl.check]`, `["tool"]` or `tool.dcpctl = ...`: only then it is worth parsing.
_MAY_SAY = re.compile(
    r"""^\s*\[\s*["']?tool["']?\s*(?:\]|\.\s*["']?dcpctl)|^\s*["']?tool["']?\s*[.=]""", re.M
)


class PolicyError(UsageError):
    """A policy that says something it cannot."""

    id = "policy"


def find_policy(checked: Sequence[Path], directory: Path | None = None) -> Path | None:
    """Return the policy file of a directory: `dcpctl.toml`, else a `pyproject.toml` that has one.

    No other directory is looked at: the same command in the same place reads the same file. A
    directory that is itself checked, or that lies in one, has none: a checkpoint must not bring
    along the policy that it is judged by.

    Args:
        checked: what is going to be checked.
        directory: where to look; the current one if None.

    Raises:
        ReadFailed: a file is there and cannot be read.
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
        if path.is_file() and (name == NAME or _MAY_SAY.search(text_of(path))):
            shown = path if directory else Path(name)
            if name == NAME or document_of(shown, text_of(path)) is not None:
                return shown
    return None


def text_of(path: Path) -> str:
    """Return the text of a policy file.

    Raises:
        PolicyError: it is too large, or not UTF-8.
        ReadFailed: it cannot be read.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise PolicyError(f"{quote(path)} is too large for a policy", hint=_WITHOUT)
        return path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"cannot read the policy {quote(path)}: {error.strerror}"
        raise ReadFailed(message, hint=_WITHOUT) from None
    except UnicodeDecodeError:
        raise PolicyError(f"{quote(path)} is not UTF-8", hint=_WITHOUT) from None


def document_of(path: Path, text: str) -> Any:
    """Return what a policy file says; None if it is a `pyproject.toml` that says nothing of dcpctl.

    Raises:
        PolicyError: it is no TOML.
    """
    from dcpctl.formats.toml_text import parse_toml

    try:
        document = parse_toml(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{quote(path)} cannot be parsed: {error}") from None
    if path.name != PROJECT:
        return document
    tools = document.get("tool")
    return tools.get("dcpctl") if isinstance(tools, dict) else None
