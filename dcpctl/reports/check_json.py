"""What `check` found as JSON: the contract `dcpctl.check/1`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dcpctl.check.finding import SEVERITIES, CheckResult

SCHEMA = "dcpctl.check/1"


def check_document(result: CheckResult, *, failed: bool) -> dict[str, Any]:
    """Everything but the findings; keys are added freely and never renamed within `/1`."""
    return {
        "schema": SCHEMA,
        "path": str(result.path),
        "format": result.form,
        "torch": result.target,
        "failed": failed,
        "counts": {severity: result.counts[severity] for severity in SEVERITIES},
        "not_listed": result.left_off,
        "rules_run": list(result.rules_run),
        "skipped": [{"rule": one.rule, "because": one.because} for one in result.skipped],
        "notes": list(result.notes),
        "items": {"all": result.items, "verified": result.items_verified},
        "bytes": {"stored": result.bytes_stored, "read": result.bytes_read},
    }


def finding_documents(result: CheckResult) -> Iterator[dict[str, Any]]:
    """The findings, by rule."""
    for finding in result.findings:
        yield {
            "rule": finding.rule,
            "severity": finding.severity,
            "subject": finding.subject,
            "message": finding.message,
            "file": finding.file,
            "offset": finding.offset,
        }
