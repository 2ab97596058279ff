"""The gate: do the first steps after a resume match the regime before it?"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from dcpctl.signature.columns import GRAD_NORM, LOSS, LR
from dcpctl.signature.evidence import EARLY, RISE, Change, Evidence

#: What has to match; throughput may change with the machines.
COMPARED = (LOSS, GRAD_NORM, LR)
#: Single rows may lie so many standard deviations away, and so many of ten even farther.
BAND, STRAY_OF_TEN = 4.0, 2
#: Standard errors that the mean may lie away: more than for a verdict, as a gate that fails for
#: nothing is soon switched off.
SURE = 4.0


@dataclass(frozen=True)
class Match:
    """Whether the first steps match.

    Attributes:
        ok: they do; False also where it cannot be told.
        compared: the quantities that were.
        because: what does not match, or why it cannot be told; empty where all does.
    """

    ok: bool
    compared: tuple[str, ...]
    because: tuple[str, ...]


def match(evidence: Evidence) -> Match:
    """Compare the first steps after a resume with what the regime before it leads to expect."""
    compared = tuple(name for name in COMPARED if name in evidence.changes)
    because: list[str] = []
    if LOSS not in compared:
        because.append(f"no regime: {len(evidence.before)} rows with a loss before it")
    elif len(evidence.steps) < evidence.first:
        because.append(f"{len(evidence.steps)} of {evidence.first} rows after it")
    else:
        for name in compared:
            because += _mismatches(evidence.changes[name], evidence.first)
    return Match(not because, compared, tuple(because))


def _mismatches(change: Change, first: int) -> list[str]:
    name = change.quantity.replace("_", " ")
    values = change.values[:first]
    missing = sum(not isfinite(value) for value in values)
    if missing:
        return [f"{name} is missing or not finite in {missing} of {first} rows"]
    for part in (EARLY, RISE):
        shift = change.shifts.get(part)
        if shift is None or not shift.direction:
            continue
        if shift.paired or (part == EARLY and abs(shift.sigmas) > SURE):
            return [f"{name} {shift.relative:+.1%}"]
    if change.quantity == LR:
        return []
    stray = sum(abs(rest) > BAND * change.course.sigma for rest in change.rest[:first])
    if stray > STRAY_OF_TEN * first / 10:
        return [f"{name} strays in {stray} of {first} rows"]
    return []
