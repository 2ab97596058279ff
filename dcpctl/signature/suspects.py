"""Where the signature of lost optimizer state shows in a log that shows no resume."""

from __future__ import annotations

from math import isfinite
from statistics import median

from dcpctl.signature.columns import GRAD_NORM, LOSS
from dcpctl.signature.log import Log

#: Rows on each side, and between two places that are looked at.
_SIDE, _EVERY = 20, 5
#: The least rise of the loss and the least fall of grad norm.
_ROSE, _FELL = 1.15, 0.85


def suspect(log: Log) -> float | None:
    """Return the step at which loss rises most while grad norm falls; None where it never does.

    A process that goes on at exactly the next step, in a log without times, leaves no other trace.
    """
    rows = [
        (step, loss, norm)
        for step, loss, norm in zip(
            log.steps, log.columns[LOSS], log.columns[GRAD_NORM], strict=True
        )
        if loss is not None and norm is not None and isfinite(loss) and isfinite(norm)
    ]
    best, found = _ROSE, None
    for place in range(_SIDE, len(rows) - _SIDE + 1, _EVERY):
        before, after = rows[place - _SIDE : place], rows[place : place + _SIDE]
        loss = median(row[1] for row in before)
        norm = median(row[2] for row in before)
        if loss <= 0 or norm <= 0 or median(row[2] for row in after) > _FELL * norm:
            continue
        rose = median(row[1] for row in after) / loss
        if rose > best:
            best, found = rose, place
    return None if found is None else _sharpest(rows, found)


def _sharpest(rows: list[tuple[float, float, float]], place: int) -> float:
    """The step near a place at which the loss rises at once; places are looked at coarsely."""
    low = median(row[1] for row in rows[place - _SIDE : place - _EVERY])
    high = median(row[1] for row in rows[place + _EVERY : place + _SIDE])
    near = rows[place - _EVERY : place + _EVERY]
    return next((step for step, loss, _ in near if loss > (low + high) / 2), rows[place][0])
