"""`dcpctl edit`: its options are those of all verbs."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from dcpctl.cli.parsing import Command
from dcpctl.cli.surgery_options import Run, SourceArgument, TargetArgument, common_flags, with_run
from dcpctl.cli.verbs import flags_of, parameter_of, values
from dcpctl.errors import UsageError
from dcpctl.surgery.options import OPTIMIZER_OF, Option
from dcpctl.surgery.verbs import Verb, all_verbs, build, words_of

_ARGUMENTS = "dcpctl.arguments"
_PANEL = "Edits, made in the order given"


class _Ordered(Command):
    """A command that remembers its arguments as they were given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as ever, and keep the arguments."""
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


#: The class of this command: its options count in the order in which they are given.
COMMAND = _Ordered


@dataclass(frozen=True, slots=True)
class _Step:
    """An option that asks for an edit, or for one more thing of the edit before it.

    Attributes:
        verb: of the edit.
        flags: of the option.
        help: of the option.
        field: of the verb that it gives, with the verb's own option; None where it gives several,
            or none.
    """

    verb: type[Verb]
    flags: tuple[str, ...]
    help: str
    field: tuple[str, Option] | None = None


def _steps(verb: type[Verb]) -> Iterator[_Step]:
    """The options that ask for edits of one verb."""
    name = f"--{verb.verb}"
    if verb.together is not None:
        yield _Step(verb, (name,), verb.together.help)
        return
    words = words_of(verb)
    if words is not None:
        yield _Step(verb, (name,), words[1].step or words[1].help, words)
    elif not verb.by_options:
        yield _Step(verb, (name,), verb.only)
    for field, option in flags_of(verb).values():
        if option is OPTIMIZER_OF:
            continue
        if option.kind.many:
            flag = f"{name}-{option.flag.lstrip('-')}"
            yield _Step(verb, (flag,), option.step or option.help, (field, option))
        elif verb.by_options:
            yield _Step(verb, option.flags, option.step or option.help, (field, option))


def _beside(verb: type[Verb]) -> dict[str, tuple[str, Option]]:
    """The options that say how all edits of a verb are made."""
    if verb.by_options:
        return {}
    return {
        name: (field, option)
        for name, (field, option) in flags_of(verb).items()
        if not option.kind.many and not option.required
    }


class _Offered:
    """All that `dcpctl edit` takes, of the verbs that there are.

    Attributes:
        steps: parameter to the option that asks for an edit.
        beside: parameter to the verbs that an option is for, their field, and the option.
    """

    def __init__(self, verbs: Mapping[str, type[Verb]]) -> None:
        self.steps: dict[str, _Step] = {}
        self.beside: dict[str, tuple[list[str], str, Option]] = {}
        taken = set(common_flags())
        for verb in verbs.values():
            for step in _steps(verb):
                if taken.isdisjoint(step.flags):
                    taken.update(step.flags)
                    self.steps[f"step{len(self.steps)}"] = step
        for verb in verbs.values():
            for name, (field, option) in _beside(verb).items():
                if not taken.isdisjoint(option.flags):
                    continue
                known = self.beside.setdefault(f"beside_{name}", ([], field, option))
                if known[1] == field and known[2].flags == option.flags:
                    known[0].append(verb.verb)

    def by_flag(self, flag: str) -> _Step | None:
        """The step that a flag of the command line asks for."""
        return next((step for step in self.steps.values() if flag in step.flags), None)

    def parameters(self) -> Iterator[inspect.Parameter]:
        """The options of the command."""
        kind = inspect.Parameter.KEYWORD_ONLY
        made: dict[str, tuple[Any, Any]] = {}
        for name, step in self.steps.items():
            made[name] = _step_parameter(step)
        listed = typer.Option(
            "--edits", metavar="FILE", help="A list of edits as TOML.", rich_help_panel=_PANEL
        )
        made["edits"] = (Annotated[list[Path] | None, listed], None)
        for name, (verbs, _, option) in self.beside.items():
            said = option.beside or option.help[:1].lower() + option.help[1:]
            made[name] = parameter_of(option, help=f"For {_flags(verbs)}: {said}")
        made["optimizer_of"] = parameter_of(OPTIMIZER_OF)
        for name, (annotation, default) in made.items():
            yield inspect.Parameter(name, kind, annotation=annotation, default=default)

    def asked(self, given: Mapping[str, Any]) -> dict[str, list[tuple[str, Option, Any]]]:
        """What the options beside the edits give: verb to fields and values."""
        found: dict[str, list[tuple[str, Option, Any]]] = {}
        for name, (verbs, field, option) in self.beside.items():
            for value in values([(field, option, given[name])]):
                for verb in verbs:
                    found.setdefault(verb, []).append(value)
        return found


def _step_parameter(step: _Step) -> tuple[Any, Any]:
    if step.field is not None:
        several = not step.verb.by_options
        return parameter_of(step.field[1], *step.flags, help=step.help, many=several, panel=_PANEL)
    if step.verb.together is None:
        flag = typer.Option(*step.flags, help=step.help, rich_help_panel=_PANEL)
        return Annotated[bool, flag], False
    metavar = step.verb.together.metavar
    info = typer.Option(*step.flags, metavar=metavar, help=step.help, rich_help_panel=_PANEL)
    return Annotated[list[str] | None, info], None


def _flags(verbs: Sequence[str]) -> str:
    return " and ".join(f"--{verb}" for verb in verbs)


def edit(context: typer.Context, source: Path, target: str | None, run: Run, **given: Any) -> None:
    """Make several edits in one pass over the data.

    Edits are made in the order in which they are given, each on what the one before it left; edits
    of one kind that follow each other are one. Options that begin with For say how all edits of
    these kinds are made. The same list can stand in a TOML file, to be reviewed and repeated:
    [[edits]] tables with a verb and its fields, such as verb = "drop" and
    keys = ["lr_scheduler.*"].

    Examples:
      dcpctl edit sample_checkpoints/legacy out/new --upgrade --torch 2.13 --set lr=1e-4
      dcpctl edit out/new out/two --rename layers=blocks --drop '*.1.ffn*' --world-size 2
      dcpctl edit out/new --set step=0 --set betas=0.9,0.99 --in-place
    """
    offered = _offered()
    words = _given_in_order(context)
    asked = offered.asked(given)
    _refuse_idle(offered, given, {step.verb.verb for step, _ in _listed(offered, words)})
    path = run.alone(target)
    made = _edits(offered, words, asked)
    pairs = [pair for _, _, found in values([_pairs(given)]) for pair in found]
    run.carry_out("edit", source, path, _with_pairs(made, pairs))


def command() -> Callable[..., None]:
    """Return the command, with the options of the verbs that there are."""

    def options(**given: Any) -> None:
        edit(**given)

    kind = inspect.Parameter.KEYWORD_ONLY
    function: Any = options
    function.__signature__ = inspect.Signature(
        [
            inspect.Parameter("context", kind, annotation=typer.Context),
            inspect.Parameter("source", kind, annotation=SourceArgument),
            inspect.Parameter("target", kind, annotation=TargetArgument, default=None),
            *_offered().parameters(),
            inspect.Parameter("run", kind, annotation=Run),
        ]
    )
    function.__doc__ = edit.__doc__
    return with_run(function)


@cache
def _offered() -> _Offered:
    return _Offered(all_verbs())


def _pairs(given: Mapping[str, Any]) -> tuple[str, Option, Any]:
    return "optimizer_of", OPTIMIZER_OF, given["optimizer_of"]


def _listed(offered: _Offered, words: Sequence[tuple[str, str]]) -> Iterator[tuple[_Step, str]]:
    for flag, value in words:
        step = offered.by_flag(flag)
        if step is not None:
            yield step, value


def _refuse_idle(offered: _Offered, given: Mapping[str, Any], used: set[str]) -> None:
    """Refuse options that say how edits are made of which there is none.

    Raises:
        UsageError: there is such an option.
    """
    for name, (verbs, field, option) in offered.beside.items():
        if used.isdisjoint(verbs) and list(values([(field, option, given[name])])):
            raise UsageError(f"{option.flag} is for {_flags(verbs)}")


def _edits(
    offered: _Offered,
    words: Sequence[tuple[str, str]],
    asked: Mapping[str, list[tuple[str, Option, Any]]],
) -> list[Verb]:
    """Return the edits that options name, in their order.

    Args:
        offered: all options.
        words: options and their values, in order; those that are no edits are passed over.
        asked: what options beside them give, by verb.

    Raises:
        UsageError: an option's value is malformed, or there is no edit.
    """
    from dcpctl.surgery.edits.file import read_edits

    found: list[Verb] = []
    listed = [(offered.by_flag(flag), flag, value) for flag, value in words]
    kinds = (one for one in listed if one[0] is not None or one[1] == "--edits")
    for verb, group in groupby(kinds, key=lambda one: one[0] and one[0].verb):
        if verb is None:
            found += [edit for _, _, file in group for edit in read_edits(Path(file))]
            continue
        beside = asked.get(verb.verb, [])
        if verb.together is not None:
            fixed = {field: value for field, _, value in beside}
            found += [verb(**verb.together.read(value), **fixed) for _, _, value in group]
        else:
            told = [_read(*step.field, value) for step, _, value in group if step and step.field]
            found.append(build(verb, [*told, *beside]))
    if not found:
        raise UsageError("no edit is asked for", hint="dcpctl edit --help lists them")
    for verb in {type(edit): None for edit in found if edit.by_options}:
        if sum(isinstance(edit, verb) for edit in found) > 1:
            raise UsageError(verb.by_options)
    return found


def _read(field: str, option: Option, text: str) -> tuple[str, Option, Any]:
    value = option.kind.read(option.kind.word(text) if option.kind.word is not bool else True)
    return field, option, (value,) if option.kind.many else value


def _with_pairs(made: Sequence[Verb], pairs: Sequence[tuple[str, str]]) -> list[Verb]:
    """Let the first edit that touches optimizers say which belongs to which model.

    Raises:
        UsageError: there are pairs, and no such edit.
    """
    found = list(made)
    for number, edit in enumerate(found):
        if pairs and hasattr(edit, "optimizer_of"):
            known = (*edit.optimizer_of, *pairs)
            found[number] = dataclasses.replace(edit, optimizer_of=known)  # type: ignore[type-var]
            return found
    if pairs:
        raise UsageError("--optimizer-of is for edits of names, keys and layouts")
    return found


def _given_in_order(context: typer.Context) -> list[tuple[str, str]]:
    """Return the options of the command line with their values, in order.

    A flag's value is empty. The command line has been parsed, so it is well-formed.
    """
    takes_value: dict[str, bool] = {}
    for parameter in context.command.params:
        for name in (*parameter.opts, *parameter.secondary_opts):
            takes_value[name] = not getattr(parameter, "is_flag", False)
    found: list[tuple[str, str]] = []
    arguments = iter(context.meta[_ARGUMENTS])
    for argument in arguments:
        if argument == "--":
            break
        name, sign, value = argument.partition("=")
        if takes_value.get(argument, False):
            found.append((argument, next(arguments, "")))
        elif name in takes_value and argument.startswith("--"):
            found.append((name, value if sign else ""))
        elif takes_value.get(argument[:2], False):  # -n2
            found.append((argument[:2], argument[2:]))
    return found
