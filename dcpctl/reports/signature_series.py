"""What a plot of a resume shows: one quantity before and after it, and what was expected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, log10

from dcpctl.signature.engine import Diagnosis, Result
from dcpctl.signature.evidence import Change
from dcpctl.signature.log import Log

#: What is drawn, from top to bottom.
DRAWN = {"loss": "loss", "grad_norm": "grad norm"}
#: The greatest value over the least, from which on a scale is logarithmic.
_FAR = 200.0


@dataclass(frozen=True)
class Series:
    """A quantity around a resume.

    Attributes:
        label: its name.
        before: (step, value) of the rows before.
        after: the same after.
        change: what is expected after, with its scatter.
        first: the step at which the second part begins.
    """

    label: str
    before: list[tuple[float, float]]
    after: list[tuple[float, float]]
    change: Change
    first: float

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest value."""
        values = [value for _, value in (*self.before, *self.after)]
        low, high = min(values), max(values)
        apart = high - low > 1e-9 * max(abs(low), abs(high))
        return (low, high) if apart else (low - abs(low) / 2 - 0.5, high + abs(high) / 2 + 0.5)

    @property
    def logarithmic(self) -> bool:
        """Whether the values are too far apart for a linear scale, as when a run diverges."""
        low, high = self.bounds
        return low > 0 and high / low > _FAR

    def height(self, value: float, room: float = 0.0) -> float:
        """Return where a value stands, 0 at the bottom and 1 at the top, which others are moved to.

        Args:
            value: it.
            room: share of the height that is left free on both sides.
        """
        low, high = self.bounds
        if self.logarithmic:
            low, high, value = log10(low), log10(high), log10(max(value, low))
        share = (value - low) / (high - low)
        return min(max(room + share * (1 - 2 * room), 0.0), 1.0)

    @property
    def steps(self) -> tuple[float, float]:
        """The first and the last step."""
        steps = [step for step, _ in (*self.before, *self.after)]
        return min(steps), max(*steps, min(steps) + 1)


def series_of(result: Result, one: Diagnosis) -> Iterator[Series]:
    """The quantities that can be drawn."""
    for quantity, label in DRAWN.items():
        change = one.evidence.changes.get(quantity)
        if change is None:
            continue
        before = _points(result.log, quantity, set(one.evidence.before), one.resume.row)
        after = [
            (step, value)
            for step, value in zip(one.evidence.steps, change.values, strict=True)
            if _drawable(value)
        ]
        if before and after:
            yield Series(label, before, after, change, one.resume.step)


def _drawable(value: float) -> bool:
    return isfinite(value) and (value == 0 or 1e-100 < abs(value) < 1e100)


def _points(log: Log, quantity: str, steps: set[float], end: int) -> list[tuple[float, float]]:
    column = log.columns[quantity]
    found: dict[float, float] = {}
    for row, step in enumerate(log.steps[:end]):
        value = column[row]
        if step in steps and value is not None and _drawable(value):
            found[step] = value
    return sorted(found.items())
