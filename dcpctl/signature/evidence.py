"""What changed at a resume: each quantity after it, against the regime before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, nan, sqrt
from statistics import median

from dcpctl.signature.columns import GRAD_NORM, LOSS, LR
from dcpctl.signature.log import BY_STEP, MEASURED, Log
from dcpctl.signature.resumes import Resume, rows_before
from dcpctl.signature.robust import (
    LEAST,
    Course,
    Spread,
    clipped_mean,
    course,
    pair_error,
    signed_rank,
    spread,
)

#: Standard errors and share of the level that a change must have to be one.
SURE = 3.2
NOTABLE = {LOSS: 0.01, GRAD_NORM: 0.04, LR: 0.05, "throughput": 0.1}
#: The same where both processes saw the same data, so that steps can be compared one by one; and
#: the chance at which a signed-rank test of the differences is sure. Reductions in another order
#: make differences too, which are smaller and have no sign.
NOTABLE_REPLAYED = 0.002
CHANCE = 0.002
#: Standard errors that such a test takes for that.
FAR_REPLAYED = 3.1
#: Correlation of the steps' ups and downs from which on the data are taken for the same.
_SAME_DATA = 0.7
#: Of the scatter, what is left between two processes that see the same data.
_REPLAYED_SIGMA = 0.25
#: Where the middle of a window ends, in multiples of `steps`.
MIDDLE = 3
#: Rows that the learning rate's course is found from: schedules bend.
_LR_ROWS = 20

#: The fewest rows that tell anything.
_FEWEST = 5

EARLY, RISE, MID, LATE = "early", "rise", "middle", "late"


@dataclass(frozen=True)
class Shift:
    """How far a quantity lies from its course in a part of the rows after a resume.

    Attributes:
        seen: the rows' own median and spread.
        expected: the median that the course expects there.
        relative: mean deviation as a share of what is expected.
        sigmas: the same in standard errors.
        direction: 1 where it is up, -1 where it is down, 0 where it is neither for sure.
        error: the standard error.
        rows: how many rows there are.
        paired: whether they are compared one by one with those of the process before.
    """

    seen: Spread
    expected: float
    relative: float
    sigmas: float
    direction: int
    error: float
    rows: int
    paired: bool


@dataclass(frozen=True)
class Change:
    """A quantity around a resume.

    Attributes:
        quantity: its name.
        before: the rows before.
        course: what they lead one to expect.
        values: the rows after, NaN where one has none.
        rest: the same without what is expected; NaN as above.
        sigma: standard deviation of a row of `rest`, were nothing changed.
        paired: whether the process before had the same row, which `rest` is taken from.
        shifts: for the first steps (`early`), the next ones (`middle`) and the others (`late`); and
            for twice the first steps without the very first (`rise`), in which an optimizer that
            begins anew does its harm.
    """

    quantity: str
    before: Spread
    course: Course
    values: Sequence[float]
    rest: Sequence[float]
    sigma: Sequence[float]
    paired: Sequence[bool]
    shifts: dict[str, Shift]

    def direction(self, part: str) -> int:
        """Return the direction of a part; 0 where there are no rows."""
        return self.shifts[part].direction if part in self.shifts else 0

    def relative(self, part: str) -> float:
        """Return the relative shift of a part; 0 where there are no rows."""
        return self.shifts[part].relative if part in self.shifts else 0.0

    def top(self) -> float:
        """Return the largest relative rise that is sure, or as it is where none is."""
        sure = [shift.relative for shift in self.shifts.values() if shift.direction > 0]
        return max(sure or [shift.relative for shift in self.shifts.values()], default=0.0)

    def bottom(self) -> float:
        """Return the largest relative fall that is sure; 0 without."""
        return min((s.relative for s in self.shifts.values() if s.direction < 0), default=0.0)


@dataclass(frozen=True)
class Evidence:
    """All that is known about a resume.

    Attributes:
        resume: the place.
        steps: the steps of the rows after it, at most a window of them.
        before: the steps of the rows before it that the courses are found from.
        first: number of rows that the gate and `early` look at.
        apart: steps from one row to the next; NaN where the log tells no steps.
        unit: what the steps are called: `step`, or `row` where the log tells none.
        replayed: rows that both the process before and the one after logged, on the same data.
        changes: quantity -> what changed; without those that have too few rows.
    """

    resume: Resume
    steps: Sequence[float]
    before: Sequence[float]
    first: int
    apart: float
    unit: str
    replayed: int
    changes: dict[str, Change]


def gather(log: Log, resume: Resume, end: int, *, window: int, first: int) -> Evidence:
    """Compare the rows from a resume on with those before it.

    Args:
        log: the log.
        resume: the place.
        end: the row of the next resume, or the number of rows.
        window: rows on each side, at most.
        first: rows that are the first steps.
    """
    steps = log.steps
    before, branch = rows_before(log, resume, window)
    after = list(range(resume.row, min(end, resume.row + window)))
    pairs = [(row, branch[steps[row]]) for row in after if steps[row] in branch]
    replayed = len(pairs) if _same_data(log, pairs) else 0
    twins = dict(pairs) if replayed else {}
    changes = {}
    for quantity in MEASURED:
        made = _change(log, quantity, before, after, twins, first)
        if made is not None:
            changes[quantity] = made
    apart = median([abs(b - a) for a, b in pairwise([steps[row] for row in before])] or [1.0])
    if log.placed != BY_STEP:
        apart = nan
    return Evidence(
        resume, [steps[row] for row in after], [steps[row] for row in before], first, apart,
        log.unit, replayed, changes,
    )  # fmt: skip


def _numbers(log: Log, quantity: str, rows: Sequence[int]) -> list[float]:
    column = log.columns[quantity]
    return [nan if (value := column[row]) is None else value for row in rows]


def _same_data(log: Log, pairs: Sequence[tuple[int, int]]) -> bool:
    """Whether two processes went up and down together; slow differences do not count."""
    if len(pairs) < LEAST:
        return False
    new = _numbers(log, LOSS, [row for row, _ in pairs])
    old = _numbers(log, LOSS, [row for _, row in pairs])
    a = [after - before for before, after in pairwise(new)]
    b = [after - before for before, after in pairwise(old)]
    both = [(x, y) for x, y in zip(a, b, strict=True) if isfinite(x) and isfinite(y)]
    power = sqrt(sum(x * x for x, _ in both) * sum(y * y for _, y in both))
    return power > 0 and sum(x * y for x, y in both) / power > _SAME_DATA


def _change(
    log: Log,
    quantity: str,
    before: Sequence[int],
    after: Sequence[int],
    twins: dict[int, int],
    first: int,
) -> Change | None:
    steps = log.steps
    known = before[-_LR_ROWS:] if quantity == LR else before
    old = _numbers(log, quantity, known)
    expected = course([steps[row] for row in known], old)
    range_before = spread(_numbers(log, quantity, before))
    if expected is None or range_before is None:
        return None
    values = _numbers(log, quantity, after)
    rest, sigma, pairs = [], [], []
    for row, value in zip(after, values, strict=True):
        twin = log.columns[quantity][twins[row]] if row in twins else None
        paired = twin is not None and isfinite(twin) and quantity in (LOSS, GRAD_NORM)
        rest.append(value - (twin if paired and twin is not None else expected.at(steps[row])))
        sigma.append(expected.sigma * (_REPLAYED_SIGMA if paired else 1.0))
        pairs.append(paired)
    change = Change(quantity, range_before, expected, values, rest, sigma, pairs, {})
    places = [steps[row] for row in after]
    for part, begin, end in (
        (EARLY, 0, first),
        (RISE, 1, 1 + 2 * first),
        (MID, first, MIDDLE * first),
        (LATE, MIDDLE * first, len(after)),
    ):
        made = _shift(change, places, begin, min(end, len(after)))
        if made is not None:
            change.shifts[part] = made
    return change


def _shift(change: Change, steps: Sequence[float], begin: int, end: int) -> Shift | None:
    """Compare a part; None where it has fewer than five numbers.

    Where enough rows have a twin, only these count: they tell more than all the others.
    """
    rows = [row for row in range(begin, end) if isfinite(change.rest[row])]
    twins = [row for row in rows if change.paired[row]]
    paired = len(twins) >= _FEWEST
    rows = twins if paired else rows
    seen = spread([change.values[row] for row in rows])
    if seen is None or len(rows) < _FEWEST:
        return None
    expected = median(change.values[row] - change.rest[row] for row in rows)
    deviations = [change.rest[row] for row in rows]
    middle = median(deviations)
    scale = abs(expected) or abs(change.course.level) or 1e-300
    if paired:
        error = pair_error(deviations, 1e-7 * scale)
        sigmas = middle / error
        far = signed_rank(deviations) <= CHANCE
        least = NOTABLE_REPLAYED
    else:
        error = change.course.error(len(rows), median(steps[row] for row in rows))
        sigmas = clipped_mean(deviations, median(change.sigma[row] for row in rows)) / error
        far = abs(sigmas) > SURE
        least = NOTABLE[change.quantity]
    sure = far and abs(middle / scale) > least and sigmas * middle > 0
    return Shift(
        seen, expected, middle / scale, sigmas, (1 if middle > 0 else -1) if sure else 0,
        error, len(rows), paired,
    )  # fmt: skip
