"""What the tests of the machine-readable formats report on."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dcpctl.check.finding import (
    ERROR,
    INFO,
    WARNING,
    Checked,
    CheckResult,
    Finding,
    Skipped,
    Unreadable,
)
from dcpctl.check.many import check_many, find_targets
from dcpctl.check.options import CheckOptions
from dcpctl.errors import UnsafePickle
from dcpctl.reports import check_formats
from dcpctl.reports.check_formats import Look

#: Names that would end, alter or begin something in one of the formats.
EVIL = [
    "::error file=x::forged",
    "a\n::warning::forged",
    "a\r\n::stop-commands::x",
    "%0A::add-mask::x",
    "x,title=forged::y",
    "##[add-mask]x ##vso[task.complete]y",
    "]]><failure/><!--",
    "\x00\x01\x0b\x1b[2J\x7f\x85",
    "\ud800 \udcff \ufffe \uffff \U0010ffff",
    "\u202eevil\u2028",
    "<script>&amp;\"'",
    "[click](https://example.com) {0} {{1}}",
    "x" * 5000,
]


def check(*paths: Path) -> Checked:
    """Really check, with torch 2.13 as the target."""
    targets = [target for path in paths for target in find_targets(path)]
    return check_many(targets, CheckOptions(verify_data=True, torch="2.13", jobs=1))


def made(*findings: Finding, path: str = "run/step-10", **changes: object) -> CheckResult:
    """A result with these findings, as if their rules and one more had run."""
    rules = tuple(sorted({"DCP101", *(finding.rule for finding in findings)}))
    result = CheckResult(
        path=Path(path),
        form="dcp",
        target="2.13",
        findings=findings,
        counts=Counter(finding.severity for finding in findings),
        rules_run=rules,
        notes=("Every byte of 3 storage items was read.",),
        items=3,
        items_verified=3,
        bytes_stored=100,
        bytes_read=100,
    )
    return replace(result, **changes)  # type: ignore[arg-type]


def hostile() -> Checked:
    """Every evil name as subject, message, file, path and reason."""
    severities = (ERROR, WARNING, INFO)
    findings = tuple(
        Finding("DCP301", severities[n % 3], name, f"says {name}", name, 7 * n)
        for n, name in enumerate(EVIL)
    )
    results = [
        made(*findings, path=f"run/{name.replace('/', '_')[:60]}", skipped=_skipped(name))
        for name in EVIL
        if "\x00" not in name
    ]
    lost = [
        Unreadable(Path(f"run/lost {n}"), UnsafePickle(name, hint=name))
        for n, name in enumerate(EVIL)
    ]
    return Checked(tuple(results), tuple(lost))


def _skipped(name: str) -> Sequence[Skipped]:
    return (Skipped("DCP307", name), Skipped("DCP301", name))


def report(name: str, checked: Checked, **look: bool) -> str:
    """The text of a report."""
    stream = io.StringIO()
    check_formats.write(name, checked, stream, Look(**look))
    return stream.getvalue()
