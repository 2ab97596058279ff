"""What `check` found as workflow commands of GitHub Actions, which annotate a run.

Source: actions/runner, `ActionCommand.TryParseV2`, which unescapes what is escaped here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from dcpctl.check.finding import ERROR, INFO, SEVERITIES, WARNING, Checked, CheckResult, Finding
from dcpctl.check.registry import all_rules
from dcpctl.errors import printable
from dcpctl.reports.blocks import disarmed, plain
from dcpctl.reports.check_blocks import outcome, summary_sentence
from dcpctl.reports.check_formats import Look
from dcpctl.reports.finding_text import place, relative, sentence

_COMMANDS = {ERROR: "error", WARNING: "warning", INFO: "notice"}
_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = _DATA | {":": "%3A", ",": "%2C"}
_DATA_TABLE, _PROPERTY_TABLE = str.maketrans(_DATA), str.maketrans(_PROPERTY)


def write(checked: Checked, stream: TextIO, look: Look) -> None:
    """One command for each finding, then a plain line for each checkpoint.

    Of one step GitHub shows ten annotations of each severity and drops the others, so the first
    finding of every rule comes before the second of any.
    """
    titles = {rule.id: rule.title for rule in all_rules()}
    for one in checked.unreadable:
        hint = f"; {one.error.hint}" if one.error.hint else ""
        stream.write(command(ERROR, one.path, one.error.id, f"{one.error.message}{hint}"))
    for result, finding in _in_turn(checked):
        title = f"{finding.rule} {titles.get(finding.rule, '')}".rstrip()
        file = result.path / place(result, finding)
        stream.write(command(finding.severity, file, title, sentence(finding)))
    for line in _plain_lines(checked):
        stream.write(disarmed(printable(line)) + "\n")


def command(severity: str, file: Path, title: str, message: str) -> str:
    """Return the workflow command of an annotation, a line; raw texts cannot end or alter it."""
    where = printable(relative(file).as_posix()).translate(_PROPERTY_TABLE)
    name = printable(title).translate(_PROPERTY_TABLE)
    said = printable(message).translate(_DATA_TABLE)
    return f"::{_COMMANDS[severity]} file={where},title={name}::{said}\n"


def _in_turn(checked: Checked) -> Iterator[tuple[CheckResult, Finding]]:
    """The gravest first, and of these the first of each rule and checkpoint."""
    found = []
    for result in checked.results:
        seen: Counter[tuple[str, str]] = Counter()
        for finding in result.findings:
            kind = (finding.severity, finding.rule)
            found.append((SEVERITIES.index(finding.severity), seen[kind], result, finding))
            seen[kind] += 1
    found.sort(key=lambda one: one[:2])
    for _, _, result, finding in found:
        yield result, finding


def _plain_lines(checked: Checked) -> Iterator[str]:
    for result in checked.results:
        said = plain(tuple(outcome(result.counts)))
        if result.left_off:
            said += f", {result.left_off:,} of them not listed"
        if result.waived:
            said += f", {len(result.waived):,} waived"
        yield f"{result.path}: {said}. {summary_sentence(result)}"
    for one in checked.unreadable:
        yield f"{one.path}: {one.error.id}"
