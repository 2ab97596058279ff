"""The commands of surgery, made of what `dcpctl.surgery` declares: one a verb."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dcpctl.cli.surgery_options import (
    Run,
    SourceArgument,
    TargetArgument,
    common_flags,
    with_run,
    with_run_anew,
)
from dcpctl.errors import UsageError, listed, quote
from dcpctl.surgery.options import Option
from dcpctl.surgery.verbs import Verb, build, find, help_of, options_of, words_of

#: A field of a verb, an option of it, and what the option gives.
Given = tuple[str, Option, Any]

_NewArgument = Annotated[
    Path | None,
    typer.Argument(metavar="DST", help="The directory to make.", show_default=False),
]


def command_of(name: str) -> Any:
    """Return the function of a verb's command, with typer's annotations and the verb's help.

    Raises:
        KeyError: there is no such verb.
        UsageError: a distribution that adds it is broken.
    """
    verb = find(name)
    if verb is None:
        raise KeyError(name)
    options = flags_of(verb)
    taken = common_flags().intersection(f for _, option in options.values() for f in option.flags)
    if taken:
        raise UsageError(f"the verb {quote(name)} has options of every verb: {listed(taken)}")

    def command(run: Run, **given: Any) -> None:
        told = list(
            values((*options[key], value) for key, value in given.items() if key in options)
        )
        source, target, words = _places(verb, run, given, {field for field, _, _ in told})
        edit = build(verb, [*values(words), *told])
        run.carry_out(verb.verb, source, target, [edit])

    arguments = _arguments(verb)
    arguments.update({key: parameter_of(option) for key, (_, option) in options.items()})
    function: Any = command
    function.__name__, function.__doc__ = name, help_of(verb)
    function.__signature__ = inspect.Signature([*_parameters(arguments), _keyword("run", Run)])
    return (with_run_anew if verb.anew else with_run)(function)


def flags_of(verb: type[Verb]) -> dict[str, tuple[str, Option]]:
    """Return the options of a command that have flags, by the name that a parameter can have."""
    return {
        option.flag.lstrip("-").replace("-", "_"): (field, option)
        for field, option in options_of(verb)
        if option.flags
    }


def parameter_of(
    option: Option, *flags: str, help: str = "", many: bool = False, panel: str | None = None
) -> tuple[Any, Any]:
    """Return an option as typer has it: the annotation, and the default.

    Args:
        option: as the verb declares it.
        flags: other flags than its own.
        help: another help than its own.
        many: several may be given, though the verb takes one.
        panel: under which heading it stands.
    """
    kind = option.kind
    word: Any = list[kind.word] if kind.many or many else kind.word  # type: ignore[name-defined]
    info = typer.Option(
        *(flags or option.flags),
        metavar=option.metavar,
        help=help or option.help,
        min=option.least,
        show_default=False,
        rich_help_panel=panel,
    )
    if option.required:
        return Annotated[word, info], ...
    if kind.word is bool and kind.read is bool:
        return Annotated[bool, info], False
    return Annotated[word | None, info], None


def values(given: Iterable[Given]) -> Iterator[Given]:
    """Read the words of options; those that were not given are left out."""
    for field, option, value in given:
        if value is None or (value is False and option.kind.read is bool) or value == []:
            continue
        read = option.kind.read
        yield field, option, tuple(map(read, value)) if option.kind.many else read(value)


def _arguments(verb: type[Verb]) -> dict[str, tuple[Any, Any]]:
    """The words of a command: annotations and defaults."""
    words = words_of(verb)
    if words is not None and words[1].sources:
        both = typer.Argument(metavar="SRC... DST", help=words[1].help, show_default=False)
        return {"paths": (Annotated[list[Path], both], ...)}
    target = _NewArgument if verb.anew else TargetArgument
    found: dict[str, tuple[Any, Any]] = {"source": (SourceArgument, ...), "target": (target, None)}
    if words is not None:
        info = typer.Argument(metavar=words[1].metavar, help=words[1].help, show_default=False)
        found["words"] = (Annotated[list[str] | None, info], None)
    return found


def _places(
    verb: type[Verb], run: Run, given: Mapping[str, Any], told: set[str]
) -> tuple[Path, Path | None, list[Given]]:
    """The source, the destination, and the words behind it."""
    words = words_of(verb)
    if verb.anew and run.in_place:
        raise UsageError(f"{verb.anew}, so there is no --in-place")
    if words is not None and words[1].sources:
        paths: Sequence[Path] = given["paths"]
        if len(paths) < 2:
            raise UsageError("no destination", hint=f"dcpctl {verb.verb} SRC... DST")
        source, *others, target = paths
        return source, target, [(*words, others)]
    source = given["source"]
    if verb.anew and given["target"] is None:
        raise UsageError("no destination", hint="name a new directory")
    if words is None:
        return source, given["target"] if verb.anew else run.alone(given["target"]), []
    met = not verb.needs or bool(told & set(verb.needs))
    path, rest = run.destination(
        given["target"], given["words"], "" if met else str(words[1].metavar)
    )
    return source, path, [(*words, rest)]


def _parameters(found: Mapping[str, tuple[Any, Any]]) -> Iterator[inspect.Parameter]:
    for name, (annotation, default) in found.items():
        yield _keyword(name, annotation, default)


def _keyword(name: str, annotation: Any, default: Any = ...) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    if default is ...:
        return inspect.Parameter(name, kind, annotation=annotation)
    return inspect.Parameter(name, kind, annotation=annotation, default=default)
