"""What `check` found as SARIF 2.1.0, which code scanning and editors read.

Source: OASIS, Static Analysis Results Interchange Format 2.1.0, and what GitHub's code scanning
asks for beyond it: it refuses a whole file for one result without a place and a line.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from dcpctl import __version__
from dcpctl.check.finding import (
    ERROR,
    INFO,
    WARNING,
    Checked,
    CheckResult,
    Unreadable,
)
from dcpctl.check.fix import fix_for
from dcpctl.check.registry import Rule, all_rules, explain
from dcpctl.documents.addresses import rule_page
from dcpctl.errors import DcpctlError, printable
from dcpctl.reports.check_formats import Look
from dcpctl.reports.finding_text import place, relative, sentence
from dcpctl.reports.json_lines import document

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

_LEVELS = {ERROR: "error", WARNING: "warning", INFO: "note"}
_PROBLEM = {ERROR: "error", WARNING: "warning", INFO: "recommendation"}


def write(checked: Checked, stream: TextIO, look: Look) -> None:
    """One log of one run; findings that a baseline lets pass are in it as suppressed."""
    rules = list(_rules(checked))
    index = {rule["id"]: number for number, rule in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": "dcpctl",
                "version": __version__,
                "semanticVersion": __version__,
                "rules": rules,
            }
        },
        "invocations": [
            {
                "executionSuccessful": not checked.unreadable,
                "toolExecutionNotifications": list(_notifications(checked.results, index)),
            }
        ],
        "columnKind": "unicodeCodePoints",
    }
    stream.write(f'{{"$schema": {json.dumps(SCHEMA)}, "version": "2.1.0", "runs": [\n')
    stream.writelines(document(run, results=_all_results(checked, index)))
    stream.write("]}\n")


def _rules(checked: Checked) -> Iterator[dict[str, Any]]:
    """The rules that ran or should have, and the reasons why checkpoints could not be read."""
    asked = {rule for result in checked.results for rule in result.rules_run}
    asked |= {one.rule for result in checked.results for one in result.skipped}
    yield from (_rule(rule) for rule in all_rules() if rule.id in asked)
    errors = {one.error.id: one.error for one in checked.unreadable}
    yield from (_error_rule(error) for _, error in sorted(errors.items()))


def _rule(rule: Rule) -> dict[str, Any]:
    page = explain(rule.id)
    meaning = page.partition("## What it means")[2].partition("\n## ")[0]
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": " ".join(meaning.split()) or rule.title},
        "helpUri": rule_page(rule.id),
        "help": {"text": page, "markdown": page},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {
            "precision": "high",
            "problem.severity": _PROBLEM[rule.severity],
            "tags": ["checkpoint", f"{rule.id[:4]}xx"],
        },
    }


def _error_rule(error: DcpctlError) -> dict[str, Any]:
    meaning = (type(error).__doc__ or error.id).strip()
    return {
        "id": error.id,
        "shortDescription": {"text": "the checkpoint cannot be read"},
        "fullDescription": {"text": meaning},
        "help": {"text": meaning},
        "defaultConfiguration": {"level": "error"},
    }


def _all_results(checked: Checked, index: dict[str, int]) -> Iterator[dict[str, Any]]:
    waived = any(result.waived for result in checked.results)
    of_each = (one for result in checked.results for one in _results(result))
    for made in chain(_unreadable(checked.unreadable), of_each):
        # Where some are suppressed, of one that does not say so nothing would be known.
        known: dict[str, Any] = {"suppressions": []} if waived else {}
        yield {**known, **made, "ruleIndex": index[made["ruleId"]]}


def _results(result: CheckResult) -> Iterator[dict[str, Any]]:
    seen: Counter[tuple[str, str, str]] = Counter()
    for findings, waived in ((result.findings, False), (result.waived, True)):
        for finding in findings:
            file = place(result, finding)
            same = (finding.rule, file, finding.subject)
            seen[same] += 1
            made = {
                "ruleId": finding.rule,
                "level": _LEVELS[finding.severity],
                "message": {"text": _message(sentence(finding))},
                "locations": [_location(result.path / file, finding.subject)],
                "partialFingerprints": _fingerprint(result.path, *same, seen[same]),
            }
            more: dict[str, Any] = {"fix": printable(fix_for(result, finding))}
            if finding.offset is not None:
                more["byteOffset"] = finding.offset
            made["properties"] = more
            if waived:
                why = printable(f"waived by {result.baseline}")
                made["suppressions"] = [
                    {"kind": "external", "status": "accepted", "justification": why}
                ]
            yield made


def _unreadable(unreadable: Iterable[Unreadable]) -> Iterator[dict[str, Any]]:
    for one in unreadable:
        hint = f"; {one.error.hint}" if one.error.hint else ""
        yield {
            "ruleId": one.error.id,
            "level": "error",
            "message": {"text": _message(printable(f"{one.error.message}{hint}"))},
            "locations": [_location(one.path)],
            "partialFingerprints": _fingerprint(one.path, one.error.id),
        }


def _notifications(
    results: Iterable[CheckResult], index: dict[str, int]
) -> Iterator[dict[str, Any]]:
    """The rules that could not run: as results they would be alerts."""
    for result in results:
        for one in result.skipped:
            yield {
                "level": "note",
                "message": {"text": _message(printable(f"{one.rule} skipped: {one.because}"))},
                "associatedRule": {"id": one.rule, "index": index[one.rule]},
                "locations": [_location(result.path / result.metadata_file)],
            }


def _location(path: Path, subject: str | None = None) -> dict[str, Any]:
    near = relative(path)
    uri = quote(near.as_posix().encode("utf-8", "surrogatepass"))
    if near.is_absolute():
        uri = f"file://{uri}"
    # These are binary files, and yet GitHub takes no result without a line.
    found: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": 1}}
    }
    if subject:
        found["logicalLocations"] = [{"fullyQualifiedName": printable(subject)}]
    return found


def _message(text: str) -> str:
    """Text that has neither links (`[a](b)`) nor placeholders (`{0}`) in SARIF's eyes."""
    return text.replace("](", "]\\(").replace("{", "{{").replace("}", "}}")


def _fingerprint(path: Path, *what: object) -> dict[str, str]:
    """What tells a finding from all others and is the same as long as it lasts.

    GitHub would make its own of the text of the line, and take all findings in a file for one.
    """
    identity = json.dumps([relative(path).as_posix(), *what])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:32]
    return {"primaryLocationLineHash": f"{digest}:1"}
