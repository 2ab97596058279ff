"""Waivers: findings that a team knows of and lets pass, so that a gate can begin today.

A waiver is about a rule, a subject (an FQN or a file, relative to the checkpoint) and what the
message says without its numbers: steps, sizes and checksums change from save to save, the waiver
stays. What happened between two saves of a run (DCP6xx) happened once: there the numbers count, and
another reset of the same kind is not waived. A waiver lets so many findings of a checkpoint pass as
there were when it was written, and none that is graver.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dcpctl.check.finding import ERROR, SEVERITIES, WARNING, CheckResult, Finding

#: What stands for a number in a waiver's message.
NUMBER = "#"
# A checksum in hexadecimal, or a number with its sign, separators, exponent and unit.
_NUMBERS = re.compile(
    r"\b(?=[0-9a-f]*\d)[0-9a-f]{8}\b"
    r"|(?<![\w-])[-+]?\d+(?:[,_]\d+)*(?:\.\d+)*(?:e[-+]?\d+)?(?: (?:bytes?|[KMGT]iB|[kMGTPE]?B)\b)?"
    r"|\d+"
)
_ONCE = "DCP6"

#: What a waiver is about: rule, subject, message.
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Waiver:
    """One line of a baseline.

    Attributes:
        rule: id of the rule.
        subject: as `Finding.subject`.
        message: the finding's, without numbers except for DCP6xx.
        severity: gravest severity that passes.
        count: most findings of one checkpoint that pass.
        reason: what the team wrote beside it; kept when the baseline is updated.
    """

    rule: str
    subject: str
    message: str
    severity: str
    count: int = 1
    reason: str = ""

    @property
    def key(self) -> Key:
        """What it is about."""
        return self.rule, self.subject, self.message

    def used_in(self, result: CheckResult) -> bool:
        """Whether it has let something pass in a check that knew of it."""
        return self.rule in result.rules_run and self not in result.unused_waivers


@dataclass(frozen=True, slots=True)
class Baseline:
    """Waivers, and the file that they are in.

    Attributes:
        path: the file.
        waivers: by what each is about.
    """

    path: Path
    waivers: Mapping[Key, Waiver]

    def applied(self, result: CheckResult) -> CheckResult:
        """Return a result, with all findings listed and none waived, without those it waives."""
        waived = Waived(self)
        left = tuple(finding for finding in result.findings if not waived.takes(finding))
        return replace(
            result,
            findings=left,
            counts=Counter(finding.severity for finding in left),
            waived=tuple(waived.findings),
            baseline=self.path,
            unused_waivers=waived.unused(result.rules_run),
        )

    def updated(self, results: Iterable[CheckResult]) -> Baseline:
        """Return the baseline that lets all errors and warnings of some results pass, and no more.

        Waivers of rules that did not run in any of them stay, and so do the reasons.

        Args:
            results: with all findings listed and none waived.
        """
        ran: set[str] = set()
        found: dict[Key, Waiver] = {}
        for result in results:
            ran.update(result.rules_run)
            for key, waiver in _waivers_for(result).items():
                known = found.get(key)
                found[key] = waiver if known is None else _wider(known, waiver)
        kept = {key: waiver for key, waiver in self.waivers.items() if waiver.rule not in ran}
        for key, waiver in found.items():
            old = self.waivers.get(key)
            kept[key] = waiver if old is None else replace(waiver, reason=old.reason)
        return Baseline(self.path, kept)


class Waived:
    """Lets the findings of one checkpoint pass that a baseline waives.

    Args:
        baseline: the waivers; None for none.
    """

    def __init__(self, baseline: Baseline | None) -> None:
        self.waivers = baseline.waivers if baseline is not None else {}
        self.findings: list[Finding] = []
        self._seen: Counter[Key] = Counter()

    def takes(self, finding: Finding) -> bool:
        """Say whether a finding is waived, and count it if it is."""
        if not self.waivers:
            return False
        key = key_of(finding)
        waiver = self.waivers.get(key)
        if waiver is None or self._seen[key] >= waiver.count:
            return False
        if SEVERITIES.index(finding.severity) < SEVERITIES.index(waiver.severity):
            return False
        self._seen[key] += 1
        self.findings.append(finding)
        return True

    def unused(self, ran: Iterable[str]) -> tuple[Waiver, ...]:
        """The waivers of rules that ran which have let nothing pass."""
        rules = set(ran)
        return tuple(w for w in self.waivers.values() if w.rule in rules and not self._seen[w.key])


def key_of(finding: Finding) -> Key:
    """Return what a waiver of a finding is about."""
    once = finding.rule.startswith(_ONCE)
    message = finding.message if once else without_numbers(finding.message)
    return finding.rule, finding.subject, message


def without_numbers(message: str) -> str:
    """Return a message with `#` for each number: `step 500 of 9,500` is `step # of #`."""
    return _NUMBERS.sub(NUMBER, message)


def _waivers_for(result: CheckResult) -> dict[Key, Waiver]:
    found: dict[Key, Waiver] = {}
    for finding in result.findings:
        if finding.severity not in (ERROR, WARNING):
            continue  # remarks fail no check
        key = key_of(finding)
        made = Waiver(*key, finding.severity)
        known = found.get(key)
        found[key] = made if known is None else replace(_wider(known, made), count=known.count + 1)
    return found


def _wider(one: Waiver, other: Waiver) -> Waiver:
    """The waiver that lets pass what either does."""
    severity = min(one.severity, other.severity, key=SEVERITIES.index)
    return replace(one, severity=severity, count=max(one.count, other.count))
