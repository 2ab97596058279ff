"""What a reset of the optimizer would do to the loss, and whether a log would show it."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, sqrt

from dcpctl.signature.columns import LOSS
from dcpctl.signature.evidence import (
    FAR_REPLAYED,
    NOTABLE,
    NOTABLE_REPLAYED,
    RISE,
    SURE,
    Change,
    Evidence,
)
from dcpctl.signature.robust import signed_rank

#: Steps -> the least mean rise over so many steps after the first, as a share of the loss, among
#: the resets of a whole AdamW that `tests/studies/signatures.py` recorded. A test keeps the table
#: equal to what the runs come to.
LEAST_RISE = {10: 0.0187, 20: 0.0141, 30: 0.0103, 50: 0.0065, 100: 0.0033}
#: Resets of other runs may be milder still: the regime that was recorded last had the mildest,
#: a fourth less than in all before it.
MILDER = 0.5
#: The median and the greatest over 20 steps.
USUAL_RISE, GREATEST_RISE = 0.088, 0.99
#: Standard errors beyond the threshold that make a rise show in 19 of 20 logs.
_NINETEEN_OF_TWENTY = 1.645


@dataclass(frozen=True)
class Power:
    """What a log can show at a resume.

    Attributes:
        shows: the least mean rise of the loss that 19 of 20 such logs would show, as a share of it.
        scatter: standard deviation of a row, as a share of the loss; of the difference of two rows
            of one step where steps are compared one by one.
        rows: that the mean is taken over.
        paired: they are compared one by one with those of the process before.
        steps: that these rows span; None where the log tells no steps.
        moves: the least that a reset may move the mean of so many steps: half of what the mildest
            that was recorded did; None as above.
    """

    shows: float
    scatter: float
    rows: int
    paired: bool
    steps: float | None
    moves: float | None

    @property
    def enough(self) -> bool:
        """Whether even the mildest reset would have shown."""
        return self.moves is not None and self.shows <= self.moves


def power_of(evidence: Evidence) -> Power | None:
    """Return the power of the log at a resume; None without a regime or rows after it."""
    loss = evidence.changes.get(LOSS)
    shift = None if loss is None else loss.shifts.get(RISE)
    if loss is None or shift is None:
        return None
    scale = abs(shift.expected) or abs(loss.course.level) or 1e-300
    rows = shift.rows
    error = shift.error / scale
    least = NOTABLE_REPLAYED if shift.paired else NOTABLE[LOSS]
    shows = max(least, (FAR_REPLAYED if shift.paired else SURE) * error)
    steps = rows * evidence.apart if isfinite(evidence.apart) else None
    return Power(
        shows=shows + _NINETEEN_OF_TWENTY * error,
        scatter=_scatter(loss, shift.paired, rows, shift.error) / scale,
        rows=rows,
        paired=shift.paired,
        steps=steps,
        moves=None if steps is None else MILDER * least_rise(steps),
    )


def _scatter(loss: Change, paired: bool, rows: int, error: float) -> float:
    return error * sqrt(rows) if paired else loss.course.sigma


def least_rise(steps: float) -> float:
    """Return the least mean rise over the steps after a reset."""
    before = min(LEAST_RISE)
    if steps <= before:
        return LEAST_RISE[before]
    for after, rise in LEAST_RISE.items():
        if steps <= after:
            share = (steps - before) / (after - before or 1)
            return LEAST_RISE[before] + share * (rise - LEAST_RISE[before])
        before = after
    # Later than the last the loss is back: the mean goes down as the steps go up.
    return LEAST_RISE[before] * before / steps


@dataclass(frozen=True)
class Twins:
    """What the losses say that can be compared with those of the process before, at the same steps.

    Attributes:
        higher: losses after the first that are higher.
        count: losses after the first that differ.
        chance: at which differences without a sign would be as one-sided as these.
        first: the difference of the first, which was made with the weights that were loaded, as a
            share of the loss; None where it cannot be compared.
    """

    higher: int
    count: int
    chance: float
    first: float | None


def twins_of(evidence: Evidence) -> Twins | None:
    """Compare with the process before; None where it did not log the same steps and data."""
    loss = evidence.changes.get(LOSS)
    if loss is None or not evidence.replayed:
        return None
    both = [row for row, paired in enumerate(loss.paired) if paired and isfinite(loss.rest[row])]
    rest = [loss.rest[row] for row in both if row and loss.rest[row]]
    scale = abs(loss.course.level) or 1e-300
    exact = evidence.apart == 1 and evidence.resume.exact and both[:1] == [0]
    return Twins(
        higher=sum(value > 0 for value in rest),
        count=len(rest),
        chance=signed_rank(rest),
        first=loss.rest[0] / scale if exact else None,
    )


def leaves_its_twins(evidence: Evidence, twins: Twins | None) -> bool:
    """Whether the loss is that of the process before until the first update, and not after it.

    Both processes saw the same data with the weights of the same save, so that what differs is what
    the update is made from: the optimizer's state, or an lr other than the log says.
    """
    loss = evidence.changes.get(LOSS)
    shift = None if loss is None else loss.shifts.get(RISE)
    if twins is None or twins.first is None or shift is None:
        return False
    return bool(shift.paired and shift.direction) and abs(twins.first) < abs(shift.relative) / 5
