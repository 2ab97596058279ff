"""Commands as typer makes them, parsed without what typer does not need for ours.

typer from 0.27 on turns every value into its type with pydantic, whose import alone takes longer
than `dcpctl inspect` may. Our options are strings, ints, paths, enums and lists of strings, so
their conversion is done here; where typer has no such layer, nothing is changed.
"""

from __future__ import annotations

from enum import Enum
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from typer.core import TyperCommand

#: The glob that `--keys` stands for without one.
EVERYTHING = "*"


class Command(TyperCommand):
    """A command; its option `--keys`, if it has one, may stand without a value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, `--help` among them, that are parsed."""
        return convert_plainly(super().get_params(ctx))

    def get_short_help_str(self, limit: int = 0) -> str:
        """Return the whole first sentence, which the list of commands wraps; never cut short."""
        return (self.help or "").partition("\n\n")[0]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the value that `--keys` at the end, or before another option, stands for."""
        made: list[str] = []
        for number, argument in enumerate(args):
            made.append(argument)
            last = number + 1 == len(args)
            if argument == "--keys" and (last or args[number + 1].startswith("-")):
                made.append(EVERYTHING)
        return super().parse_args(ctx, made)


def convert_plainly(params: list[Any]) -> list[Any]:
    """Let parameters be converted by their annotations' own constructors."""
    for param in params:
        if hasattr(param, "get_runtime_param"):
            param.get_runtime_param = _Plain
    return params


class _Plain:
    """Conversion by the annotation's own constructor; typer's name for its place and method."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value of a parameter as the type that it is annotated with."""
        annotation = param.type_descriptor.annotation
        if value is None:
            return () if param.multiple else None
        if get_origin(annotation) is list:
            (kind,) = get_args(annotation)
            return [_convert(item, kind, param, ctx) for item in value]
        return _convert(value, annotation, param, ctx)


def _convert(value: Any, kind: Any, param: Any, ctx: Any) -> Any:
    if isinstance(value, kind):
        return value
    try:
        if kind is int:
            return _in_range(int(value), param, ctx)
        if issubclass(kind, (Path, str, Enum)):
            return kind(value)
    except ValueError:
        known = [member.value for member in kind] if issubclass(kind, Enum) else []
        what = f"one of {', '.join(known)}" if known else "an integer"
        raise typer.BadParameter(f"{value!r} is not {what}.", ctx=ctx, param=param) from None
    raise TypeError(f"no conversion to {kind}")


def _in_range(value: int, param: Any, ctx: Any) -> int:
    least = param.type_descriptor.parameter_info.min
    if least is not None and value < least:
        raise typer.BadParameter(f"{value} is less than {least}.", ctx=ctx, param=param)
    return value


def help_text(function: Any) -> str:
    """A command's docstring as its help: paragraphs are filled, examples stay as they are."""
    text = cleandoc(function.__doc__ or "")
    return text.replace("\n\nExamples:", "\n\n\b\nExamples:")
