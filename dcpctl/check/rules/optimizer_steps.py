"""DCP5xx: is the optimizer, and its scheduler, at the step that the job was at?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dcpctl.check import words
from dcpctl.check.finding import ERROR, INFO, WARNING
from dcpctl.check.history import History
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.model.optimizer.verdict import ABSENT, number
from dcpctl.model.witnesses import Schedule, Witness, few

_EXPECTED = "--expect-step"


@rule("DCP506", ERROR, "the optimizer is at another step than the job")
def step_expected(run: Run) -> Iterator[Hit]:
    """`step` against the expected one, else against every witness of the job's step."""
    at = number(_at(run))
    exact = run.options.expect_step
    if exact is not None:
        if at != exact:
            yield _disagrees(run, at, exact, [_EXPECTED], few_is_fine=False)
        return
    sure = run.optimizer.witnesses.sure
    if not sure:
        raise CannotRun("neither --expect-step, the job's own count nor the directory names a step")
    said: dict[float, list[str]] = {}
    for witness in sure:
        if not _dropped(run, witness, sure):
            said.setdefault(witness.step, [])
    for step, sources in said.items():
        if at == step or _lost_since(run):
            continue
        sources += run.optimizer.witnesses.saying(step)
        agreed = run.optimizer.witnesses.saying(at)
        yield _disagrees(run, at, step, sources, few_is_fine=True, agreed=agreed)


@rule("DCP514", WARNING, "a scheduler is at another step than its optimizer")
def scheduler_step(run: Run) -> Iterator[Hit]:
    """`last_epoch` against the optimizer's step, and against what both were in the save before."""
    if run.optimizer.verdict == ABSENT or not run.optimizer.steps:
        return
    at = number(_at(run))
    schedules = run.optimizer.witnesses.schedules
    if schedules and len(run.optimizer.optimizers) > 1 and len(run.optimizer.steps) > 1:
        raise CannotRun("which of several optimizers at different steps each drives is not told")
    for schedule in schedules:
        if _goes_with_job(run, schedule, at):
            continue
        hit = _since_before(run, schedule, at) or _alone(run, schedule, at)
        if hit is not None:
            yield hit


def _at(run: Run) -> float:
    """The step that the optimizer is at: the highest of its parameters'."""
    if run.optimizer.verdict == ABSENT:
        raise CannotRun("there is no optimizer state")
    if not run.optimizer.steps:
        raise CannotRun("the optimizer keeps no step, or it could not be read")
    return max(run.optimizer.steps)


def _disagrees(
    run: Run,
    at: float,
    step: float,
    sources: Sequence[str],
    *,
    few_is_fine: bool,
    agreed: Sequence[str] = (),
) -> Hit:
    behind = step - at
    some = few_is_fine and behind > 0 and few(behind, step)
    # A job that numbers its steps from 0 saves step 99 after a hundred.
    indexed = few_is_fine and behind == -1
    says = "says" if len(sources) == 1 else "say"
    said = f"the optimizer is at step {at:,}; {words.enumerated(sources)} {says} {number(step):,}"
    if indexed:
        said += ", which a count from 0 would"
    elif behind > 0 and not some:
        said += ": it was reset or restored from an older save"
    if agreed:
        says = "says" if len(agreed) == 1 else "say"
        said += f"; {words.enumerated(agreed)} {says} {at:,} too"
    severity = INFO if indexed else WARNING if some else ERROR
    return Hit("optimizer", said + _as_before(run, behind, step), severity=severity)


def _dropped(run: Run, witness: Witness, sure: Sequence[Witness]) -> bool:
    """Whether a witness counts something else than the optimizer's steps; notes why."""
    at = _at(run)
    agreed = any(other.step == at for other in sure)
    if agreed and witness.step != at and at > 0 and witness.step % at == 0:
        return True  # micro-batches of accumulated gradients, beside the count of steps
    history = run.history
    before = None if history is None else history.earlier.step
    if history is None or before is None or before <= 0 or at == witness.step:
        return False
    old = next((w for w in history.earlier.view.witnesses.sure if w.source == witness.source), None)
    if old is None or old.step == before:
        return False
    name = history.earlier.name
    if old.step - before == witness.step - at:
        return False  # it was reset before that save already, and is so still
    if old.step and abs(witness.step / old.step - at / before) <= 0.02 * at / before:
        why = f"it counts {witness.step / at:.3g} for each step of the optimizer, as in {name}"
    elif old.step == witness.step:
        why = f"it is the same in {name}"
    else:
        why = f"it did not agree with the optimizer in {name} either"
    run.note(
        f"{witness.source} says {number(witness.step):,} and is no witness of the step: {why}."
    )
    return True


def _lost_since(run: Run) -> bool:
    """Whether the step fell or restarted since the save before: DCP601 says so, and when."""
    history = run.history
    if history is None or not run.runs("DCP601"):
        return False
    return (history.advanced or 0) < 0 or history.restarted_at is not None


def _as_before(run: Run, behind: float, step: float) -> str:
    """That the save before lagged as far behind already, a clause."""
    history = run.history
    if history is None or history.earlier.step is None or history.went_on is None or behind <= 0:
        return ""
    lagged = step - history.went_on - history.earlier.step
    return f", as {history.earlier.name} before it" if lagged == behind else ""


def _since_before(run: Run, schedule: Schedule, at: float) -> Hit | None:
    """What became of a scheduler since a save in which it went with its optimizer."""
    history, old = run.history, _earlier(run.history, schedule)
    if history is None or old is None or history.earlier.step is None:
        return None
    last, before = schedule.last_epoch, history.earlier.step
    went, advanced = last - old.last_epoch, at - before
    if not few(abs(old.last_epoch - before), before) or before <= 1 or advanced <= 0:
        return None
    if abs(went - advanced) <= max(1, 0.02 * advanced):
        return None
    what = "was restarted" if went < 0 else f"advanced by {number(went):,}"
    return Hit(
        schedule.source,
        f"the scheduler {what}: last_epoch is {number(last):,} here and was "
        f"{number(old.last_epoch):,} in {history.earlier.name}, while the optimizer continued from "
        f"step {number(before):,} to {at:,}; the learning rate follows last_epoch",
        severity=ERROR,
    )


def _goes_with_job(run: Run, schedule: Schedule, at: float) -> bool:
    """Whether a scheduler is where the job is, and the optimizer alone is not: DCP506 says so."""
    job = [witness.step for witness in run.optimizer.witnesses.sure if witness.step != at]
    return any(few(abs(step - schedule.last_epoch), step) for step in job)


def _alone(run: Run, schedule: Schedule, at: float) -> Hit | None:
    """What a scheduler's own counters say beside the optimizer's step."""
    last = schedule.last_epoch
    calls = schedule.calls
    start = f"last_epoch is {number(last):,} at step {at:,} of the optimizer"
    if calls is not None and calls != last and few(abs(calls - at), at):
        return Hit(
            schedule.source,
            f"{start}, though the scheduler was stepped {number(calls):,} times: it was set back, "
            "and the learning rate follows last_epoch",
            severity=ERROR,
        )
    if few(abs(at - last), at) or at <= 0:
        return None
    old = _earlier(run.history, schedule)
    if run.history is not None and old is not None and _kept_ratio(run.history, schedule, old, at):
        return None
    if last > at and last % at == 0:
        times = number(last / at)
        if times == len(run.checkpoint.ranks):
            return None  # accelerate steps it once for every process
        return Hit(
            schedule.source,
            f"{start}: it is stepped {times:,} times for each step of the optimizer, as accelerate "
            f"does on {times:,} processes, or was stepped by hand as well",
        )
    if last < at and _is_epoch(run, last):
        return None
    if last > at:
        why = "it was stepped more often than the optimizer, or the optimizer was reset"
        return Hit(schedule.source, f"{start}: {why}")
    if calls == last:
        return None  # stepped once an epoch, or never: nothing in this save contradicts that
    why = "it was restarted, or is stepped once an epoch"
    return Hit(schedule.source, f"{start}: {why}", severity=INFO if last > 0 else WARNING)


def _earlier(history: History | None, schedule: Schedule) -> Schedule | None:
    if history is None:
        return None
    found = history.earlier.view.witnesses.schedules
    return next((other for other in found if other.source == schedule.source), None)


def _kept_ratio(history: History, now: Schedule, old: Schedule, at: float) -> bool:
    """Whether a scheduler goes with its optimizer as it did up to the save before."""
    before = history.earlier.step
    if before is None or before <= 0:
        return False
    same_lag = old.last_epoch - before == now.last_epoch - at
    ratio = now.last_epoch / at
    return same_lag or abs(ratio - old.last_epoch / before) <= 0.02 * max(ratio, 0.02)


def _is_epoch(run: Run, last: float) -> bool:
    """Whether the directory's name gives the epoch that `last_epoch` counts."""
    if run.position is None:
        return False
    epoch = run.position.value if run.position.unit == "epoch" else run.position.epoch
    return epoch is not None and abs(epoch - last) <= 1
