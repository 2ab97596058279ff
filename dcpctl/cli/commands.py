"""The commands, each imported when it is asked for: a run of one does not pay for the others.

A command is a function in the module of its name; a new one is a new file and its name in `NAMES`.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.main import get_command

from dcpctl.cli.parsing import Command, help_text

#: Names of the commands, in the order of the help.
NAMES = (
    "inspect",
    "check",
    "explain",
    "diff",
    "contract",
    "upgrade",
    "reshard",
    "rename",
    "drop",
    "select",
    "set",
    "merge",
    "cast",
    "edit",
    "undo",
    "repair",
    "salvage",
    "signature",
    "samples",
)


class Commands(MutableMapping[str, Any]):
    """Name to command; what a group of typer has in a dict."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in NAMES:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = _make(name)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        raise TypeError("commands are named in NAMES")

    def __delitem__(self, name: str) -> None:
        raise TypeError("commands are named in NAMES")

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


def _make(name: str) -> Any:
    """Build one command, of the class that its module names in `COMMAND`, if it does."""
    module = import_module(f"dcpctl.cli.{name}")
    function = getattr(module, name)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    kind = getattr(module, "COMMAND", Command)
    alone.command(name, cls=kind, help=help_text(function))(function)
    return get_command(alone)
