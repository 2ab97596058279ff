"""The order of options on a command line, which a parser forgets."""

from __future__ import annotations

from typing import Any

import typer

from dcpctl.cli.parsing import Command

_KEY = "dcpctl.arguments"


class Ordered(Command):
    """A command that remembers its arguments as they were given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as ever, and keep the arguments."""
        ctx.meta[_KEY] = list(args)
        return super().parse_args(ctx, args)


def given_in_order(context: typer.Context) -> list[tuple[str, str]]:
    """Return the long options of an `Ordered` command with their values, in order.

    A flag's value is empty. The command line has been parsed, so it is well-formed.
    """
    takes_value: dict[str, bool] = {}
    for parameter in context.command.params:
        for name in (*parameter.opts, *parameter.secondary_opts):
            takes_value[name] = not getattr(parameter, "is_flag", False)
    found: list[tuple[str, str]] = []
    arguments = iter(context.meta[_KEY])
    for argument in arguments:
        if argument == "--":
            break
        name, sign, value = argument.partition("=")
        if takes_value.get(argument, False):
            found.append((argument, next(arguments, "")))
        elif name in takes_value and argument.startswith("--"):
            found.append((name, value if sign else ""))
    return found
