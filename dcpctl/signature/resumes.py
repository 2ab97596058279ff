"""Where a run was resumed, as its log shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from dcpctl.errors import NothingSelected
from dcpctl.signature.columns import EPOCH, TIME
from dcpctl.signature.log import BY_EPOCH, Log

#: A gap is a pause of so many times the usual time between rows, and of so many seconds.
GAP_TIMES, GAP_SECONDS = 20.0, 10.0
#: Evaluations and saves make pauses too: a gap is so many times longer than the usual pause.
PAUSE_TIMES = 3.0
#: Share of the rows in which a time that is one goes forward.
_CLOCK = 0.9
#: Rows before a resume that are searched for those that come before its step.
_SEARCHED = 20_000
#: Of a log in which more than one row in so many goes back, the order is taken for no order.
_DISORDER = 20

ASKED = "--resume-step"


@dataclass(frozen=True)
class Resume:
    """A place in a log at which a process took over.

    Attributes:
        row: the first row of the new process.
        step: its step.
        why: how the log shows it, in words.
        exact: the new process wrote this very row first; not known where only a step was given.
    """

    row: int
    step: float
    why: tuple[str, ...]
    exact: bool = True


def in_order(log: Log) -> None:
    """Put rows in the order of their steps where they are in none, and drop repetitions.

    Several ranks that write into one file repeat each step; several threads mix the steps. Neither
    is a resume.
    """
    steps = log.steps
    most = max(3, len(steps) // _DISORDER)
    same = [row for row in range(1, len(steps)) if steps[row] == steps[row - 1]]
    back = sum(after < before for before, after in pairwise(steps))
    if len(same) > most:
        repeated = set(same)
        _take(log, [row for row in range(len(steps)) if row not in repeated])
        log.notes.append(f"{len(same):,} rows repeat the step of the row before; the first is kept")
    elif back > most:
        _take(log, sorted(range(len(steps)), key=lambda row: (steps[row], row)))
        log.notes.append(f"steps go back {back:,} times; rows are put in the order of steps")


def _take(log: Log, rows: Sequence[int]) -> None:
    log.columns = {name: [column[row] for row in rows] for name, column in log.columns.items()}
    log.sessions = [log.sessions[row] for row in rows]


def find_resumes(log: Log) -> list[Resume]:
    """Find resumes where steps repeat or go back, time has gaps, or another process writes."""
    steps = log.steps
    gaps = _gaps(log)
    found = []
    for row in range(1, len(log)):
        why = []
        before, after = steps[row - 1], steps[row]
        if after < before:
            why.append(_back(log, row))
        elif after == before:
            why.append(f"{log.unit} {after:,.0f} stands twice")
        if log.sessions[row] != log.sessions[row - 1]:
            why.append("another process writes")
        if row in gaps:
            why.append(f"nothing was written for {_duration(gaps[row])}")
        if why:
            found.append(Resume(row, after, tuple(why)))
    return found


def _back(log: Log, row: int) -> str:
    if log.placed == BY_EPOCH:
        before, after = log.columns[EPOCH][row - 1 : row + 1]
        return f"the epoch goes back from {before:g} to {after:g}"
    before, after = log.steps[row - 1 : row + 1]
    return f"steps go back from {before:,.0f} to {after:,.0f}"


def resume_at(log: Log, step: int) -> Resume:
    """Return the resume from a step: one that the log shows, else the first row after the step.

    Raises:
        NothingSelected: the log has no row before it or none after it.
    """
    steps = log.steps
    apart = median([abs(b - a) for a, b in pairwise(steps)] or [1.0])
    near = [one for one in find_resumes(log) if abs(one.step - step) <= 1.5 * max(apart, 1.0)]
    if near:
        return near[-1]
    row = next((row for row in range(1, len(steps)) if steps[row - 1] <= step < steps[row]), None)
    if row is None:
        raise NothingSelected(
            f"the log has no rows on both sides of step {step:,}",
            hint=f"it goes from step {min(steps):,.0f} to {max(steps):,.0f}",
        )
    return Resume(row, steps[row], (ASKED,), exact=False)


def rows_before(log: Log, resume: Resume, window: int) -> tuple[list[int], dict[float, int]]:
    """Return what a resume went on from, and what it threw away.

    Returns:
        The last rows before it whose steps come before its own, at most a window of them; and step
        -> row of the other rows between and after these.
    """
    steps = log.steps
    before: list[int] = []
    branch: dict[float, int] = {}
    for row in range(resume.row - 1, max(resume.row - _SEARCHED, 0) - 1, -1):
        if steps[row] < resume.step:
            before.append(row)
            if len(before) >= window:
                break
        else:
            # Where a branch was given up, what comes before the resume is what both share.
            branch.setdefault(steps[row], row)
    return before[::-1], branch


def _gaps(log: Log) -> dict[int, float]:
    """Row after a gap in time -> seconds."""
    times = log.columns[TIME]
    waits = {
        row: after - before
        for row, (before, after) in enumerate(pairwise(times), 1)
        if before is not None and after is not None
    }
    forward = [wait for wait in waits.values() if wait >= 0]
    # Many call the duration of a step "time"; a clock goes forward.
    if len(waits) < 3 or len(forward) < _CLOCK * len(waits):
        return {}
    least = max(GAP_SECONDS, GAP_TIMES * median(waits.values()))
    gaps = {row: wait for row, wait in waits.items() if wait > least}
    if len(gaps) > 3:  # pauses that come again and again are the job's own
        usual = median(gaps.values())
        gaps = {row: wait for row, wait in gaps.items() if wait > PAUSE_TIMES * usual}
    return gaps


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
