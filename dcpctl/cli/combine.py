"""Options that a command has in common with others, or that are too many for its signature."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any, get_args


def with_options(
    common: Callable[..., None],
    name: str,
    make: Callable[[dict[str, Any]], Any],
    hidden: Collection[str] = (),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give the decorated command the options of another signature.

    Args:
        common: never called; its parameters are the options.
        name: the keyword argument by which the command takes what is made of them.
        make: makes it of the options' values by name.
        hidden: options that the help does not show, since the command says why it has none.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = _parameters(function)
        own.pop(name)
        more = {
            option: _hidden(parameter) if option in hidden else parameter
            for option, parameter in _common(common).items()
        }

        @functools.wraps(function)
        def command(**given: Any) -> None:
            made = make({option: given.pop(option) for option in more})
            function(**given, **{name: made})

        parameters = [*own.values(), *more.values()]
        combined: Any = command
        combined.__signature__ = inspect.Signature(parameters)
        combined.__annotations__ = {p.name: p.annotation for p in parameters}
        del combined.__wrapped__  # else typer would look behind the signature
        return command

    return decorate


def _hidden(parameter: inspect.Parameter) -> inspect.Parameter:
    kind, info = get_args(parameter.annotation)
    info = copy.copy(info)
    info.hidden = True
    return parameter.replace(annotation=Annotated[kind, info])


@functools.cache
def _common(function: Callable[..., None]) -> dict[str, inspect.Parameter]:
    """The parameters that many commands take; evaluated once."""
    return _parameters(function)


def _parameters(function: Callable[..., None]) -> dict[str, inspect.Parameter]:
    """The parameters with their annotations evaluated.

    Not by `typing.get_type_hints`, which on Python 3.10 puts an Optional around an Annotated whose
    default is None, so that typer no longer sees what it is annotated with.
    """
    return {
        name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
    }
