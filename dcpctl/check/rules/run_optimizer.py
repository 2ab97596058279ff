"""DCP6xx: did the optimizer go on from the save before to this one?"""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.estimate import Estimate
from dcpctl.check.finding import ERROR, WARNING
from dcpctl.check.history import History
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.model.optimizer.verdict import ABSENT, number
from dcpctl.model.witnesses import few

# Where decay leaves so much of so many numbers, moments that show no restart had none.
_PROVES_LEAST, _PROVES_NUMBERS = 0.5, 100


@rule("DCP601", ERROR, "the optimizer's step did not advance with the run")
def step_went_on(run: Run) -> Iterator[Hit]:
    """`step` of both saves against the steps that lie between them."""
    history = run.since()
    _in_order(history)
    before, after = history.earlier.step, history.later.step
    if before is None or after is None:
        which = history.later.name if after is None else history.earlier.name
        raise CannotRun(f"the optimizer keeps no step in {which}, or it could not be read")
    hit = _of_all(run, history, before, after) or _of_some(history)
    if hit is not None:
        yield hit


@rule("DCP602", ERROR, "the optimizer's moments restarted")
def moments_went_on(run: Run) -> Iterator[Hit]:
    """Second moments that are lower than decay alone leaves of those in the save before."""
    history = run.since()
    _in_order(history)
    if history.later.view.verdict == ABSENT or history.earlier.view.verdict == ABSENT:
        raise CannotRun("one of the saves has no optimizer state")
    compared = run.compared
    if compared is None:
        raise CannotRun(
            f"neither names, nor counts, nor the optimizer say how many steps lie between this "
            f"save and {history.earlier.name}"
        )
    if not compared.expected:
        raise CannotRun("the saves have no second moments in common whose decay is known")
    restart = run.restart
    # One event makes one finding: DCP601 tells what the moments say of a step that restarted.
    if restart is not None and (history.restarted_at is None or not run.runs("DCP601")):
        yield Hit(
            restart.tallies[0].fqn,
            _proof(history, restart) if restart.proved else _hint(history, restart),
            severity=ERROR if restart.proved else WARNING,
        )
    if compared.unread:
        lost = compared.unread
        raise CannotRun(
            f"{words.count(len(lost), 'second moment')} could not be read ({words.some(lost)}): "
            f"{next(iter(lost.values()))}"
        )


def _in_order(history: History) -> None:
    """A save is compared with one before it."""
    counted, went_on = history.counted, history.went_on
    if counted is not None and went_on is not None and went_on <= 0:
        raise CannotRun(
            f"{history.earlier.name} is of step {number(counted[0]):,} and this save of step "
            f"{number(counted[1]):,}: it is not the one before"
        )


def _of_all(run: Run, history: History, before: float, after: float) -> Hit | None:
    """What is wrong with the step of the whole optimizer."""
    went_on, advanced = history.went_on, after - before
    there = f"step {number(after):,} here, {number(before):,} in {history.earlier.name}"
    if went_on is None:
        if advanced < 0:
            return Hit("optimizer", f"the optimizer went back: {there} before")
        return None
    there += f" {words.count(round(went_on), 'step')} before"
    at = history.restarted_at
    if at is not None:
        moments = _moments_too(run)
        return Hit("optimizer", f"the optimizer restarted: {there}; reset at step {at:,}{moments}")
    if advanced < 0:
        behind = number(before + went_on - after)
        return Hit(
            "optimizer",
            f"the optimizer went back: {there}; it was restored from an older save, and is "
            f"{behind:,} steps behind",
        )
    if advanced == 0:
        return Hit("optimizer", f"the optimizer stood still: {there}")
    if few(went_on - advanced, went_on) or history.proportional:
        return None
    counted = history.counted
    agreed = counted is not None and few(abs(counted[0] - before), counted[0])
    why = "it was restored from another save" + (", or skipped steps" if advanced < went_on else "")
    return Hit(
        "optimizer",
        f"the optimizer advanced by {words.count(round(advanced), 'step')} in "
        f"{round(went_on):,}: {there}; {why}",
        severity=ERROR if agreed and advanced < went_on else WARNING,
    )


def _of_some(history: History) -> Hit | None:
    """Parameters whose step fell while that of the others went on."""
    earlier, later = history.earlier.view.step_of, history.later.view.step_of
    fell = [name for name, step in later.items() if step < earlier.get(name, step)]
    if not fell:
        return None
    name = fell[0]
    return Hit(
        name,
        f"step fell in {len(fell):,} of {words.count(len(later), 'parameter')} "
        f"({words.some(fell)}): {number(later[name]):,} here, {number(earlier[name]):,} in "
        f"{history.earlier.name}; their state was not restored",
    )


def _moments_too(run: Run) -> str:
    """What the moments say of a step that restarted, a clause."""
    restart, compared = run.restart, run.compared
    if restart is not None:
        return f", and {restart.tallies[0].slot} with it"
    if compared is None:
        return ""
    told = [t for t in compared.tallies if t.numbers and t.least >= _PROVES_LEAST]
    if sum(tally.numbers for tally in told) >= _PROVES_NUMBERS:
        return f", though {told[0].slot} continued"
    return ""


def _proof(history: History, restart: Estimate) -> str:
    tally = restart.tallies[0]
    if tally.decay < 1:
        than = (
            f"below {tally.least:.2g} of what they were in {history.earlier.name}, the least that "
            f"{words.count(tally.steps, 'step')} can leave"
        )
    else:
        than = f"below what they were in {history.earlier.name}, and never fall"
    return (
        f"{tally.slot} restarted in {len(restart.tallies):,} of "
        f"{words.count(restart.compared, 'tensor')}: {restart.below:,} of "
        f"{words.count(restart.numbers, 'number')} are {than}"
        + _when(history, restart)
        + _by_hand(history)
    )


def _hint(history: History, restart: Estimate) -> str:
    tally = restart.tallies[0]
    return (
        f"{tally.slot} looks as if it restarted in {len(restart.tallies):,} of "
        f"{words.count(restart.compared, 'tensor')}: it is {restart.share:.2g} of what it was in "
        f"{history.earlier.name}, and exp_avg is not; {tally.steps:,} steps are too many to prove "
        "it" + _when(history, restart)
    )


def _when(history: History, restart: Estimate) -> str:
    """When the moments began again, a clause."""
    if restart.since is None:
        return ""
    likely, least, most = restart.since
    counted = history.counted
    if counted is None:
        return f"; reset {least:,} to {most:,} steps before this save"
    apart = max(likely - least, most - likely)
    return f"; reset at about step {number(counted[1]) - likely:,} (±{apart:,})"


def _by_hand(history: History) -> str:
    """That `step` hides it, a clause."""
    advanced = history.advanced
    if advanced is not None and advanced > 0 and history.restarted_at is None:
        return f"; step says {number(history.later.step or 0):,} all the same"
    return ""
