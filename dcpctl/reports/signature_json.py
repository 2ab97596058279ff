"""What a training log says about its resumes as JSON: the contract `dcpctl.signature/1`."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any

from dcpctl.signature.engine import Diagnosis, Result
from dcpctl.signature.evidence import Change
from dcpctl.signature.power import power_of
from dcpctl.signature.robust import Spread

SCHEMA = "dcpctl.signature/1"


def signature_document(result: Result, *, failed: bool) -> dict[str, Any]:
    """Everything but the resumes; keys are added freely and never renamed within `/1`."""
    worst = result.worst
    return {
        "schema": SCHEMA,
        "verdict": None if worst is None else worst.verdict.name,
        "confidence": None if worst is None else worst.verdict.confidence,
        "failed": failed,
        "matches": result.matches,
        "suspect_step": result.suspect,
        "rows": len(result.log),
        "placed_by": result.log.placed,
        "window": result.window,
        "first_steps": result.first,
        "notes": list(result.log.notes),
        "files": [
            {
                "path": one.path,
                "format": one.form,
                "columns": dict(one.columns),
                "rows": one.rows,
                "rows_without_metrics": one.without,
                "rows_unreadable": one.bad,
            }
            for one in result.log.sources
        ],
    }


def resume_documents(result: Result) -> Iterator[dict[str, Any]]:
    """The resumes, in the order of the log."""
    for one in result.diagnoses:
        yield {
            "step": one.resume.step,
            "row": one.resume.row,
            "shown_by": list(one.resume.why),
            "verdict": one.verdict.name,
            "confidence": one.verdict.confidence,
            "sentence": one.verdict.sentence,
            "reasons": list(one.verdict.reasons),
            "onset": one.shape.onset or None if one.shape else None,
            "back_at_step": _back(one),
            "rows_before": len(one.evidence.before),
            "rows_after": len(one.evidence.steps),
            "steps_compared_one_by_one": one.evidence.replayed,
            "match": {
                "ok": one.match.ok,
                "compared": list(one.match.compared),
                "because": list(one.match.because),
            },
            "power": _power(one),
            "saves": _saves(one),
            "quantities": {name: _change(change) for name, change in one.evidence.changes.items()},
        }


def _power(one: Diagnosis) -> dict[str, Any] | None:
    power = power_of(one.evidence)
    if power is None:
        return None
    return {
        "shows": _number(power.shows),
        "scatter": _number(power.scatter),
        "rows": power.rows,
        "steps": power.steps,
        "least_rise_of_a_reset": power.moves,
        "enough": power.enough,
    }


def _saves(one: Diagnosis) -> dict[str, Any] | None:
    witness = one.witness
    if witness is None:
        return None
    return {
        "resumed_from": None if witness.resumed_from is None else str(witness.resumed_from),
        "after": None if witness.after is None else str(witness.after),
        "optimizer": witness.optimizer,
        "because": list(witness.because),
    }


def _back(one: Diagnosis) -> float | None:
    steps = one.evidence.steps
    if one.shape is None or not one.shape.up or one.shape.back is None:
        return None
    return steps[one.shape.back] if one.shape.back < len(steps) else None


def _change(change: Change) -> dict[str, Any]:
    return {
        "before": _spread(change.before),
        "expected": {
            "at_step": change.course.origin,
            "value": _number(change.course.level),
            "slope_per_step": _number(change.course.slope),
            "sigma": _number(change.course.sigma),
        },
        "after": {
            part: {
                **_spread(shift.seen),
                "expected": _number(shift.expected),
                "relative_change": _number(shift.relative),
                "standard_errors": _number(shift.sigmas),
                "direction": ("down", "same", "up")[shift.direction + 1],
            }
            for part, shift in change.shifts.items()
        },
    }


def _spread(seen: Spread) -> dict[str, Any]:
    return {"median": seen.median, "low": seen.low, "high": seen.high, "rows": seen.count}


def _number(value: float) -> float | None:
    return value if isfinite(value) else None
