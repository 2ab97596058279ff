"""DCP5xx, what the optimizer's numbers say: steps and second moments."""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.finding import ERROR, WARNING
from dcpctl.check.moments import Moment
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.errors import quote
from dcpctl.model.optimizer.moments import NEVER_ALL_ZERO
from dcpctl.model.optimizer.verdict import ABSENT, number


@rule("DCP505", WARNING, "parameters are at different steps")
def steps_differ(run: Run) -> Iterator[Hit]:
    """`step` of the parameters, which all take part in every step of most jobs."""
    _steps(run)
    for share in run.optimizer.shares:
        steps = share.steps
        if len(steps) < 2:
            continue
        shown = ", ".join(
            f"{step:,} ({words.count(count, 'parameter')})" for step, count in steps.items()
        )
        low, high = min(steps), max(steps)
        behind = share.behind
        whose = f" of {quote(share.root)}" if len(run.optimizer.shares) > 1 else ""
        yield Hit(
            next(iter(behind), share.parameters[0].name),
            f"the parameters{whose} are at {len(steps):,} different steps, "
            + (shown if len(steps) <= 4 else f"{low:,} to {high:,}")
            + f"; behind are {words.some(behind)}",
        )


@rule("DCP507", ERROR, "a second moment is negative")
def negative(run: Run) -> Iterator[Hit]:
    """Means of squares below zero, of which the next step takes the square root."""
    moments = _moments(run)
    # Where DCP512 says that they are swapped, it says this too.
    pairs = run.pairs.remarkable if run.runs("DCP512") else []
    said = {chunk.pair.second.fqn for chunk in pairs if chunk.evidence.swapped}
    found: dict[str, list[Moment]] = {}
    for moment in moments:
        if moment.negative and moment.fqn not in said:
            found.setdefault(moment.slot, []).append(moment)
    for slot, members in found.items():
        negatives = sum(moment.negative for moment in members)
        names = f" of {words.count(len(members), 'parameter')} ({_some(members)})"
        yield Hit(
            members[0].fqn,
            f"{words.count(negatives, 'negative number')} among "
            f"{sum(moment.numbers for moment in members):,} read of {slot}"
            + (names if len(members) > 1 else "")
            + f", the lowest {min(moment.lowest for moment in members):g}",
        )
    _require_all(run)


def _some(moments: list[Moment]) -> str:
    return words.some(moment.parameter for moment in moments)


@rule("DCP517", ERROR, "a second moment is infinite or NaN")
def not_finite(run: Run) -> Iterator[Hit]:
    """Means of squares that overflowed, or that a gradient of infinity or NaN reached."""
    found: dict[str, list[Moment]] = {}
    for moment in _moments(run):
        if moment.infinite or moment.nan:
            found.setdefault(moment.slot, []).append(moment)
    for slot, moments in found.items():
        infinite, nan = sum(m.infinite for m in moments), sum(m.nan for m in moments)
        counts = [
            words.count(infinite, "infinity", "infinities") if infinite else "",
            words.count(nan, "NaN", "NaN") if nan else "",
        ]
        yield Hit(
            moments[0].fqn,
            f"{' and '.join(filter(None, counts))} among "
            f"{words.count(sum(m.numbers for m in moments), 'number')} read of {slot} of "
            + words.count(len(moments), "parameter")
            + f" ({_some(moments)})",
        )
    _require_all(run)


@rule("DCP508", ERROR, "second moments are all zero after steps were taken")
def all_zero(run: Run) -> Iterator[Hit]:
    """Moments of zero while `step` says that gradients came."""
    steps = run.optimizer.step_of
    counted = [
        m for m in _moments(run) if m.slot in NEVER_ALL_ZERO and steps.get(m.parameter, 0) > 0
    ]
    # Beside a first moment that is not zero, DCP512 says it, and knows that it was lost.
    pairs = run.pairs.remarkable if run.runs("DCP512") else []
    said = {chunk.pair.second.fqn for chunk in pairs if chunk.evidence.beyond}
    zero = [moment for moment in counted if moment.all_zero and moment.fqn not in said]
    if zero and len(zero) == len(counted):
        yield Hit(
            zero[0].fqn,
            f"{zero[0].slot} is zero everywhere in {words.count(len(zero), 'parameter')}, all that "
            f"were read, at step {number(max(steps.values())):,}: the moments are lost",
        )
        return
    for moment in zero:
        yield Hit(
            moment.fqn,
            f"{moment.slot} is zero everywhere though {quote(moment.parameter)} is at step "
            f"{number(steps[moment.parameter]):,}: no gradient ever reached it, or it was lost",
            severity=WARNING,
        )
    _require_all(run)


def _steps(run: Run) -> dict[float, int]:
    if run.optimizer.verdict == ABSENT:
        raise CannotRun("there is no optimizer state")
    if not run.optimizer.steps:
        raise CannotRun("the optimizer keeps no step, or it could not be read")
    return dict(run.optimizer.steps)


def _moments(run: Run) -> list[Moment]:
    if run.optimizer.verdict == ABSENT:
        raise CannotRun("there is no optimizer state")
    if not run.moments.expected:
        raise CannotRun("the optimizer keeps no second moments in a form that can be read")
    return run.moments.found


def _require_all(run: Run) -> None:
    lost = run.moments.unread
    if lost:
        raise CannotRun(
            f"{words.count(len(lost), 'second moment')} could not be read "
            f"({words.some(moment.fqn for moment in lost)}): {lost[0].unread}"
        )
