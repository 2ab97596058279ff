"""The shape of the loss after a resume: when it rose, how long it was up, whether it came back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median

from dcpctl.signature.evidence import EARLY, LATE, MID, MIDDLE, RISE, Change, Evidence

#: A rise that is at half its height or above for no more rows than this is a spike.
SPIKE_ROWS = 5
#: Standard deviations that a single row must stand out by to tell anything.
_OUTSTANDING = 6.0
#: The same for a rise whose first row shall tell whether the loss was up before the first update,
#: and from where on that is beyond doubt.
_TELLING, _PLAIN = 1.5, 3.0
#: Correlation of neighbouring rows from which on they are running means, which blur an onset.
_AVERAGED = 0.5
#: Standard deviations of a jump that has nothing to do with the resume before it.
_LATER = 4.0
#: Rows that the loss is smoothed over.
_SMOOTH = 5
#: Numbers that are none, of which so many make a run broken.
_BROKEN = 3

AT_ONCE, AFTER_UPDATES, LATER = "at once", "after the first updates", "later"


@dataclass(frozen=True)
class Shape:
    """What the loss did.

    Attributes:
        broken: NaN and infinities stay.
        up: it rose for sure, in any part.
        down: it fell for sure, and rose in none.
        lasting: it is still up at the end.
        growing: it is highest late, and was not at first.
        spike: rows of a short spike that stands out; empty where there is none.
        onset: `at once`, where the very first row is up, `after the first updates`, `later`, or ""
            where it cannot be told.
        plain: the onset is beyond doubt.
        peak: number of the row, after the resume, at which the smoothed loss is highest.
        back: number of the row from which on it is back for good; None if it is not, or never left.
    """

    broken: bool
    up: bool
    down: bool
    lasting: bool
    growing: bool
    spike: Sequence[int]
    onset: str
    plain: bool
    peak: int
    back: int | None


def shape_of(loss: Change, evidence: Evidence) -> Shape:
    """Describe the loss after a resume."""
    smooth = _smoothed(loss.rest)
    broken = sum(not isfinite(value) for value in loss.values) >= _BROKEN
    parts = [loss.direction(part) for part in (EARLY, RISE, MID, LATE)]
    peak = max(range(len(smooth)), key=lambda row: smooth[row], default=0)
    last = LATE if LATE in loss.shifts else MID if MID in loss.shifts else EARLY
    end = loss.shifts.get(last)
    tail = smooth[-max(len(smooth) // 3, 1) :]
    stays = bool(tail) and median(tail) > min(smooth[peak] / 4, loss.course.sigma)
    lasting = loss.direction(last) > 0 and (stays or end is None)
    growing = peak > evidence.first and smooth[peak] > 3 * max(
        _mean(loss.rest[1 : evidence.first]), 0.0
    )
    spike = _spike(loss, smooth)
    onset, plain = _onset(loss, evidence)
    if onset != AT_ONCE and _rises_later(loss, smooth, evidence.first):
        onset, plain = LATER, True
    return Shape(
        broken=broken,
        up=1 in parts,
        down=1 not in parts and -1 in parts,
        lasting=lasting,
        growing=lasting and growing,
        spike=spike,
        onset=onset,
        plain=plain,
        peak=peak,
        back=None if lasting else _back(loss, smooth, peak),
    )


def _smoothed(values: Sequence[float]) -> list[float]:
    made = []
    for row in range(len(values)):
        near = [v for v in values[max(0, row - 2) : row + _SMOOTH - 2] if isfinite(v)]
        made.append(median(near) if near else 0.0)
    return made


def _mean(values: Sequence[float]) -> float:
    kept = [value for value in values if isfinite(value)]
    return sum(kept) / len(kept) if kept else 0.0


def _spike(loss: Change, smooth: Sequence[float]) -> list[int]:
    """Rows of the highest peak, where it is narrow and the loss is back after it."""
    rows = [row for row, value in enumerate(loss.rest) if isfinite(value)]
    if not rows:
        return []
    top = max(rows, key=lambda row: loss.rest[row])
    height = loss.rest[top]
    if height < _OUTSTANDING * loss.course.sigma:
        return []
    wide = [row for row in rows if loss.rest[row] > height / 2]
    if len(wide) > SPIKE_ROWS or wide[-1] - wide[0] >= 2 * SPIKE_ROWS:
        return []
    after = smooth[wide[-1] + _SMOOTH : wide[-1] + 3 * _SMOOTH]
    return wide if after and median(after) < max(height / 10, loss.course.sigma) else []


def _onset(loss: Change, evidence: Evidence) -> tuple[str, bool]:
    """Tell whether the loss was up before the first update, where each step has its row.

    The first loss after a resume is computed with the weights as they were loaded. An optimizer
    without its state does its harm from the first update on; other data, or weights that are not
    those that were saved, show at once.
    """
    first = evidence.first
    averaged = loss.course.memory > _AVERAGED
    if evidence.apart != 1 or averaged or not evidence.resume.exact or len(loss.rest) < first:
        return "", False
    start, sigma = loss.rest[0], loss.sigma[0]
    rise = max(
        median(_finite(loss.rest[begin:end]) or [0.0])
        for begin, end in ((1, first // 2), (1, first), (first, MIDDLE * first))
    )
    if evidence.replayed and abs(start) < 0.2 * rise:
        return AFTER_UPDATES, True  # the very loss of the process before, to the digit or nearly
    if not isfinite(start) or rise < _TELLING * sigma:
        return "", False
    return AT_ONCE if start > rise / 2 else AFTER_UPDATES, rise >= _PLAIN * sigma


def _rises_later(loss: Change, smooth: Sequence[float], first: int) -> bool:
    """Whether the first steps are as before and the loss jumps after them."""
    if loss.direction(EARLY) > 0 or not smooth:
        return False
    bound = max(max(smooth) / 2, _LATER * loss.course.sigma)
    above = [row for row, value in enumerate(loss.rest) if value > bound]
    return bool(above) and above[0] >= first and max(smooth) > bound


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if isfinite(value)]


def _back(loss: Change, smooth: Sequence[float], peak: int) -> int | None:
    """The row from which on the smoothed loss stays below a quarter of its peak, or its scatter."""
    bound = max(smooth[peak] / 4, loss.course.sigma) if smooth else 0.0
    above = [row for row, value in enumerate(smooth) if value > bound]
    return above[-1] + 1 if above else None
