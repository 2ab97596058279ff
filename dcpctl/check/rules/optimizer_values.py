"""DCP5xx, what the optimizer's numbers say: steps and second moments."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.finding import ERROR, WARNING
from dcpctl.check.moments import NEVER_ALL_ZERO, Moment
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.errors import quote
from dcpctl.model.directories import PART_NAMES, step_of
from dcpctl.model.optimizer.verdict import ABSENT, number

# Directory names whose number is a count of steps, and those whose number is one of epochs. The
# number in the others (`checkpoint_3`, `3`) may be either, or that of the save.
_STEPS = re.compile(r"(?i)(?:^|[^a-z])(?:global_?step|iteration|iter|step)[-_=]?\d")
_EPOCHS = re.compile(r"(?i)(?:^|[^a-z])epoch")
# A loss scaler skips steps of the optimizer that the job counts: a few, and early.
_SKIPPED_SHARE, _SKIPPED_STEPS = 0.02, 2


@rule("DCP505", WARNING, "parameters are at different steps")
def steps_differ(run: Run) -> Iterator[Hit]:
    """`step` of the parameters, which all take part in every step of most jobs."""
    steps = _steps(run)
    if len(steps) > 1:
        shown = ", ".join(
            f"{step:,} ({words.count(count, 'parameter')})" for step, count in steps.items()
        )
        low, high = min(steps), max(steps)
        every = run.optimizer.step_of
        behind = [name for name, step in every.items() if not step >= high]  # or NaN
        yield Hit(
            next(iter(behind or every)),
            f"the parameters are at {len(steps):,} different steps, "
            + (shown if len(steps) <= 4 else f"{low:,} to {high:,}")
            + f"; behind are {words.some(behind)}",
        )


@rule("DCP506", ERROR, "the optimizer is at another step than the job")
def step_expected(run: Run) -> Iterator[Hit]:
    """`step` against the expected one, the job's own count and the directory's name."""
    at = number(max(_steps(run)))
    said: dict[float, list[str]] = {}
    severities: dict[float, str] = {}
    for source, step, severity in _expected_steps(run):
        said.setdefault(step, []).append(source)
        if severities.get(step) != ERROR:
            severities[step] = severity
    if not said:
        raise CannotRun("neither --expect-step, the job's own count nor the directory names a step")
    for step, sources in said.items():
        if at == step:
            continue
        behind = step - at
        few = 0 < behind <= max(_SKIPPED_STEPS, _SKIPPED_SHARE * step)
        exact = "--expect-step" in sources
        if not exact and _lost_since(run):
            continue
        yield Hit(
            "optimizer",
            f"the optimizer is at step {at:,}; {' and '.join(sources)} "
            f"{'says' if len(sources) == 1 else 'say'} {number(step):,}"
            + ("" if few or behind < 0 else ": it was reset or restored from an older save")
            + _since_before(run, behind, step),
            severity=WARNING if few and not exact else severities[step],
        )


@rule("DCP507", ERROR, "a second moment is negative")
def negative(run: Run) -> Iterator[Hit]:
    """Means of squares below zero, of which the next step takes the square root."""
    for moment in _moments(run):
        if moment.negative:
            yield Hit(
                moment.fqn,
                f"{words.count(moment.negative, 'negative number')} among {moment.numbers:,} read "
                f"of {moment.slot}, the lowest {moment.lowest:g}",
            )
    _require_all(run)


@rule("DCP508", ERROR, "second moments are all zero after steps were taken")
def all_zero(run: Run) -> Iterator[Hit]:
    """Moments of zero while `step` says that gradients came."""
    steps = run.optimizer.step_of
    counted = [
        m for m in _moments(run) if m.slot in NEVER_ALL_ZERO and steps.get(m.parameter, 0) > 0
    ]
    zero = [moment for moment in counted if moment.all_zero]
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


def _lost_since(run: Run) -> bool:
    """Whether the step fell or restarted since the save before: DCP601 says so, and when."""
    history = run.history
    if history is None or not run.runs("DCP601"):
        return False
    return (history.advanced or 0) < 0 or history.restarted_at is not None


def _since_before(run: Run, behind: float, step: float) -> str:
    """That the save before lagged as far behind already, a clause."""
    history = run.history
    if history is None or history.earlier.step is None or history.went_on is None or behind <= 0:
        return ""
    lagged = step - history.went_on - history.earlier.step
    return f", as {history.earlier.name} before it" if lagged == behind else ""


def _expected_steps(run: Run) -> Iterator[tuple[str, float, str]]:
    """What else tells the step: source, step, and how grave a difference is."""
    if run.options.expect_step is not None:
        yield "--expect-step", run.options.expect_step, ERROR
        return
    if run.optimizer.job_step is not None:
        yield run.optimizer.job_step[0], run.optimizer.job_step[1], ERROR
    path = run.checkpoint.path.resolve()
    name = path.parent.name if PART_NAMES.fullmatch(path.name) else path.name
    step = step_of(name)
    if step is not None and _STEPS.search(name):
        yield "the directory's name", step, ERROR
    elif step is not None and not _EPOCHS.search(name):
        yield "the directory's name", step, WARNING


def _moments(run: Run) -> list[Moment]:
    if run.optimizer.verdict == ABSENT:
        raise CannotRun("there is no optimizer state")
    if not run.moments.expected:
        raise CannotRun("the optimizer keeps no second moments")
    return run.moments.found


def _require_all(run: Run) -> None:
    lost = run.moments.unread
    if lost:
        raise CannotRun(
            f"{words.count(len(lost), 'second moment')} could not be read "
            f"({words.some(moment.fqn for moment in lost)}): {lost[0].unread}"
        )
