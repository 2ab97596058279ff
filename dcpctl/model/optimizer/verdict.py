"""The verdict on an optimizer's state and the sentence that says it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from dcpctl.errors import printable
from dcpctl.model.fqn import common_prefixes
from dcpctl.model.optimizer import coverage
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.faults import GAP, SHAPE, SHARE, Fault, listed_faults
from dcpctl.model.optimizer.source import BUCKETS, SLOT_FIRST, RawOptimizer
from dcpctl.model.optimizer.ties import Ties
from dcpctl.model.values import Unknown

COMPLETE, PARTIAL, ABSENT = "complete", "partial", "absent"

_SHOWN = 3
_NAME_LENGTH = 200
# What a parameter may be where nothing is known to be lost.
_SOUND = (coverage.COMPLETE, coverage.NO_STATE_NEEDED, coverage.NEVER_TRAINED)


def judge(
    parameters: Sequence[Parameter],
    *,
    has_groups: bool,
    groups_lost: bool,
    unreadable: bool,
    flaws: bool = False,
) -> str:
    """Return the verdict on the state of all trained parameters together.

    Args:
        parameters: every trained parameter.
        has_groups: param groups were saved.
        groups_lost: hyperparameters of some parameters are known to be missing.
        unreadable: entries of the optimizer could not be read.
        flaws: something else is known to be wrong (state of several ranks under one index, a
            model of which a part is not there).

    Returns:
        `complete`, `partial` or `absent`. An optimizer that needs no state is complete with its
        param groups alone.
    """
    unread = any(parameter.status == coverage.UNREAD for parameter in parameters)
    if unread or (unreadable and not parameters):
        return PARTIAL
    some = any(parameter.slots for parameter in parameters)
    needed = any(parameter.expected for parameter in parameters)
    stateless = bool(parameters) and all(p.kind.rules is not None for p in parameters)
    if not some and (needed or not (has_groups and stateless)):
        return ABSENT
    whole = all(not parameter.missing and not parameter.faults for parameter in parameters)
    wrong = groups_lost or unreadable or flaws
    return COMPLETE if whole and not wrong else PARTIAL


def sentence(
    verdict: str,
    kind: str | None,
    parameters: Sequence[Parameter],
    steps: Sequence[float],
    *,
    has_groups: bool,
    groups_lost: Sequence[str] = (),
    unread: Sequence[Unknown] = (),
    flaws: Sequence[str] = (),
    job_step: tuple[str, float] | None = None,
    unknown: Sequence[str] = (),
    at: str = "",
) -> str:
    """Say in one sentence or two whether training can be resumed, and why not.

    An optimizer that is behind the job's own count of steps (`job_step`, an FQN and its value) was
    reset on the way: its state is complete and still not the one that the run had. `flaws` say
    what else is wrong, a clause each. `unknown` are roots under which nothing was understood. `at`
    says the steps in other words than these find, where several optimizers are at different ones.
    """
    name = kind or "the optimizer"
    if verdict == ABSENT:
        return _absent(kind, has_groups, unknown)
    at = at or _at(steps)
    start = "Training can be resumed: "
    if job_step and steps and steps[-1] < job_step[1]:
        verb = "says" if " " in job_step[0] else "is"
        at = f"{at}, while {job_step[0]} {verb} {number(job_step[1])}"
        start = (
            "Training can be resumed, but the optimizer seems to have been reset on the way "
            "(a resume without its state?): "
        )
    if verdict == COMPLETE and flaws:
        return printable(
            f"Do not resume from this as it is: {_upper(name)} state is complete{at}, but "
            f"{'; '.join(flaws)}."
        )
    if verdict == COMPLETE:
        needing = sum(bool(parameter.expected) for parameter in parameters)
        if not needing:
            return f"{start}{name} needs no state, and its param groups are here."
        covered = sum(parameter.status == coverage.COMPLETE for parameter in parameters)
        share = f"{covered} of {needing} {_plural('parameter', needing)}"
        if any(parameter.kind.global_state for parameter in parameters):
            share = f"{_count([p.name for p in parameters])}, which share it"
        gone = f"; {_unread(unread)}" if unread else ""
        return printable(f"{start}{_upper(name)} state is complete for {share}{at}{gone}.")
    reasons = _reasons(parameters)
    if not (groups_lost or unread or flaws) and only_bare(parameters):
        return _bare(name, parameters, at, reasons)
    reasons += [*_faults(parameters), *flaws]
    if groups_lost:
        listed = shorten(groups_lost)
        reasons.append(f"the hyperparameters of {_count(groups_lost)} are lost ({listed})")
    if unread:
        reasons.append(_unread(unread))
    return printable(
        f"Do not resume from this as it is: {_upper(name)} state is partial{at}; "
        f"{'; '.join(reasons)}."
    )


def only_bare(parameters: Sequence[Parameter]) -> bool:
    """Whether all that is missing is the whole state of parameters that nothing says had some."""
    bare = any(parameter.missing for parameter in parameters)
    return bare and all(parameter.status in _SOUND for parameter in parameters)


def _bare(name: str, parameters: Sequence[Parameter], at: str, reasons: Sequence[str]) -> str:
    """All that is not there is the whole state of some parameters, and nothing says it was."""
    needing = sum(bool(parameter.expected) for parameter in parameters)
    covered = sum(parameter.status == coverage.COMPLETE for parameter in parameters)
    return printable(
        f"{_upper(name)} state is complete for {covered} of {needing} "
        f"{_plural('parameter', needing)}{at}; {'; '.join(reasons)}. A load that asks for that "
        "state fails; dcpctl upgrade --fill-missing-state zeros adds what a new optimizer has."
    )


def _faults(parameters: Iterable[Parameter]) -> list[str]:
    """One clause for each kind of state that is there and not what its parameter needs."""
    kinds: dict[str, list[tuple[str, Fault]]] = {}
    for parameter in parameters:
        for fault in parameter.faults:
            kinds.setdefault(fault.kind, []).append((parameter.name, fault))
    words = {
        GAP: "not all here: {why}",
        SHARE: "one rank's share alone, and the other ranks' shares are not here",
        SHAPE: "of another shape: {why}",
    }
    found = []
    for kind, faults in kinds.items():
        ending = words[kind].format(why=faults[0][1].why)
        for slots, names in listed_faults(faults).items():
            verb = "is" if len(slots) == 1 else "are"
            found.append(
                f"{', '.join(slots)} of {_count(names)} ({shorten(names)}) {verb} {ending}"
            )
    return found


def _unread(unread: Sequence[Unknown]) -> str:
    """Say what could not be read, and why, for a few reasons."""
    why = list(dict.fromkeys(gone.reason for gone in unread))
    more = f" and {len(why) - 1} more {_plural('reason', len(why) - 1)}" if len(why) > 1 else ""
    return f"{len(unread)} optimizer {_entries(unread)} could not be read: {why[0]}{more}"


def _entries(of: Sequence[object]) -> str:
    return "entry" if len(of) == 1 else "entries"


def _upper(name: str) -> str:
    return name.removeprefix("the ")


def _absent(kind: str | None, has_groups: bool, unknown: Sequence[str]) -> str:
    if unknown:
        return printable(
            f"Training cannot be resumed from this as far as can be told: the entries under "
            f"{shorten(unknown)} have names in no form that dcpctl knows."
        )
    if has_groups:
        return (
            f"Training cannot be resumed from this: the param groups{f' of {kind}' if kind else ''}"
            " are here and no state is; it was saved before the first step, or the state was "
            "lost, and a resume restarts the optimizer from zero moments."
        )
    return (
        "Training cannot be resumed from this: there is no optimizer state; a resume restarts "
        "the optimizer from zero moments."
    )


def _at(steps: Sequence[float]) -> str:
    if not steps:
        return ""
    if len(steps) == 1:
        return f", at step {number(steps[0])}"
    return f", at steps {number(steps[0])} to {number(steps[-1])}"


def _reasons(parameters: Iterable[Parameter]) -> list[str]:
    """One clause for each way in which parameters lack state."""
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for parameter in parameters:
        if parameter.missing:
            gone = parameter.missing if parameter.slots else ()
            alike.setdefault((parameter.status, gone), []).append(parameter.name)
    words = {coverage.LOST: "lost", coverage.NEVER_TRAINED: "never got a gradient, or lost"}
    return [
        f"{_count(names)} without {', '.join(gone) or 'any state'} ({shorten(names)}: "
        f"{words[status]})"
        for (status, gone), names in alike.items()
    ]


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} {_plural('parameter', len(names))}"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"


def notes(
    optimizers: Sequence[RawOptimizer],
    *,
    has_groups: bool,
    frozen: Sequence[str],
    frozen_count: int,
    ties: Ties,
    extra_state: Sequence[str],
    not_in_model: Sequence[str],
    overwritten: bool,
    train_mode: bool = False,
) -> tuple[str, ...]:
    """Say what else a person should know, a sentence each."""
    found = []
    if frozen_count:
        subject = "1 of the model's parameters is"
        if frozen_count > 1:
            subject = f"{frozen_count} of the model's parameters are"
        which = f" ({shorten(frozen)})" if frozen else ""
        told = "" if frozen else "; which, an index-keyed state does not tell"
        found.append(f"{subject} in no param group and without state{which}{told}.")
    found += [
        f"{name} is tied to {first}: their numbers are equal, and one state serves both."
        for name, first in ties.tied.items()
    ]
    found += [
        f"{name} is not tied to {first}: they have one shape and other numbers."
        for name, first in ties.apart.items()
    ]
    found += [
        f"{name} may be tied to {first}: they have one shape, and their numbers were not compared."
        for name, first in ties.unknown.items()
    ]
    if extra_state and not overwritten:
        found.append(f"State without parameter: {shorten(extra_state)}.")
    if not_in_model:
        found.append(f"Named by the optimizer and not in the model: {shorten(not_in_model)}.")
    if train_mode:
        found.append(
            "Saved in train mode: the model's weights are the point that a schedule-free optimizer "
            "trains at, not the average that it evaluates; optimizer.eval() before the save gives "
            "that."
        )
    styles = {raw.style for raw in optimizers}
    if BUCKETS in styles:
        found.append("State is kept by gradient bucket, so it does not tell of parameters.")
    if optimizers and not has_groups:
        where = "; Megatron keeps them, and the step, in common.pt"
        megatron = bool(styles & {SLOT_FIRST, BUCKETS})
        found.append(f"No param groups among the entries{where if megatron else ''}.")
    return tuple(map(printable, found))


def shorten(names: Sequence[str]) -> str:
    """List names for a sentence: whole modules as `layers.0.*`, three of them and a count."""
    short = [name[:_NAME_LENGTH] for name in common_prefixes(tuple(names))]
    more = f" and {len(short) - _SHOWN} more" if len(short) > _SHOWN else ""
    return ", ".join(short[:_SHOWN]) + more


def number(step: float) -> float | int:
    """Return a step as an int where it is one."""
    return int(step) if float(step).is_integer() else step


def count_steps(values: Iterable[float]) -> dict[float | int, int]:
    """Return the distinct steps in order, each with the number of parameters that have it."""
    # One NaN is like another, though no two are equal.
    counts = Counter(number(value) if value == value else math.nan for value in values)
    return dict(sorted(counts.items()))
