"""What `check` found as JSON: the contract `dcpctl.check/1`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from dcpctl.check.baseline import Waiver
from dcpctl.check.finding import SEVERITIES, Checked, CheckResult, Finding, Unreadable
from dcpctl.check.fix import fix_for

SCHEMA = "dcpctl.check/1"

#: The beginning of a document, and the lists that it goes on with.
Document = tuple[dict[str, Any], dict[str, Iterable[Any]]]


def one_document(result: CheckResult, *, strict: bool) -> Document:
    """One checkpoint; keys are added freely and never renamed within `/1`.

    Args:
        result: what was found.
        strict: warnings fail the check too.
    """
    head = {"schema": SCHEMA, **_result(result, strict=strict)}
    unused = map(_waiver, result.unused_waivers)
    return head, {"findings": _findings(result, result.findings), "unused_waivers": unused}


def many_document(checked: Checked, *, strict: bool) -> Document:
    """Several checkpoints: what each of them alone would be, under `checkpoints`.

    Args:
        checked: what was found.
        strict: warnings fail the check too.
    """
    head = {
        "schema": SCHEMA,
        "failed": checked.failed(strict),
        "counts": _counts(checked),
        "runs": [
            {
                "path": str(run.path),
                "saves": [str(path) for path in run.saves],
                "resume_from": None if run.resume_from is None else str(run.resume_from),
            }
            for run in checked.runs
        ],
        "not_looked_into": [{"path": str(path), "why": why} for path, why in checked.unread],
    }
    return head, {
        "unused_waivers": map(_waiver, checked.unused_waivers),
        "unreadable": (_unreadable(one) for one in checked.unreadable),
        "checkpoints": (
            {**_result(one, strict=strict), "findings": list(_findings(one, one.findings))}
            for one in checked.results
        ),
    }


def _result(result: CheckResult, *, strict: bool) -> dict[str, Any]:
    return {
        "path": str(result.path),
        "against": None if result.against is None else str(result.against),
        "policy": None if result.policy is None else str(result.policy),
        "format": result.form,
        "torch": result.target,
        "failed": result.failed(strict),
        "counts": _counts(result),
        "not_listed": result.left_off,
        "rules_run": list(result.rules_run),
        "skipped": [{"rule": one.rule, "because": one.because} for one in result.skipped],
        "notes": list(result.notes),
        "baseline": None if result.baseline is None else str(result.baseline),
        "waived": list(_findings(result, result.waived)),
        "items": {"all": result.items, "verified": result.items_verified},
        "bytes": {"stored": result.bytes_stored, "read": result.bytes_read},
    }


def _counts(found: CheckResult | Checked) -> dict[str, int]:
    return {severity: found.counts[severity] for severity in SEVERITIES}


def _unreadable(one: Unreadable) -> dict[str, Any]:
    return {
        "path": str(one.path),
        "error": one.error.id,
        "message": one.error.message,
        "hint": one.error.hint,
    }


def _waiver(waiver: Waiver) -> dict[str, Any]:
    return {"rule": waiver.rule, "subject": waiver.subject, "message": waiver.message}


def _findings(result: CheckResult, findings: Iterable[Finding]) -> Iterator[dict[str, Any]]:
    for finding in findings:
        yield {
            "rule": finding.rule,
            "severity": finding.severity,
            "subject": finding.subject,
            "message": finding.message,
            "file": finding.file,
            "offset": finding.offset,
            "fix": fix_for(result, finding),
        }
