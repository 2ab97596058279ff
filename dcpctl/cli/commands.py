"""The commands, each imported when it is asked for: a run of one does not pay for the others.

A command is a function in the module of its name, and its name is in `BEFORE` or `AFTER`; those of
surgery stand between and are made of the verbs that `dcpctl.surgery` and plugins declare.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.main import get_command

from dcpctl.cli.parsing import Command, help_text

#: Names of the commands before those of surgery, in the order of the help.
BEFORE = ("inspect", "check", "explain", "diff", "contract")
#: Names of those behind them.
AFTER = ("edit", "undo", "repair", "salvage", "signature", "samples")


class Commands(MutableMapping[str, Any]):
    """Name to command; what a group of typer has in a dict."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _make(name)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        raise TypeError("commands are declared")

    def __delitem__(self, name: str) -> None:
        raise TypeError("commands are declared")

    def __iter__(self) -> Iterator[str]:
        return iter(_names())

    def __len__(self) -> int:
        return len(_names())


def _names() -> tuple[str, ...]:
    from dcpctl.surgery.verbs import all_verbs

    return tuple(dict.fromkeys((*BEFORE, *all_verbs(), *AFTER)))


def summary(name: str) -> str:
    """Return the first sentence of a command's help; builds no command, as a list has many."""
    from dcpctl.surgery.verbs import all_verbs

    own = name in BEFORE or name in AFTER
    subject = getattr(import_module(f"dcpctl.cli.{name}"), name) if own else all_verbs()[name]
    return help_text(subject).partition("\n\n")[0]


def _make(name: str) -> Any:
    """Build one command, of the class that its module names in `COMMAND`, if it does.

    It is the function of its name, or what the module's `command()` makes.

    Raises:
        KeyError: there is none.
    """
    kind: type[Command] = Command
    if name in BEFORE or name in AFTER:
        module = import_module(f"dcpctl.cli.{name}")
        function = module.command() if hasattr(module, "command") else getattr(module, name)
        kind = getattr(module, "COMMAND", Command)
    else:
        from dcpctl.cli.verbs import command_of

        function = command_of(name)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, cls=kind, help=help_text(function))(function)
    return get_command(alone)
