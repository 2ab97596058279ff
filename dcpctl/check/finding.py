"""What check says: findings, and rules that could not run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dcpctl.errors import DcpctlError

if TYPE_CHECKING:
    from dcpctl.check.baseline import Waiver

ERROR, WARNING, INFO = "error", "warning", "info"
#: Severities, the gravest first.
SEVERITIES = (ERROR, WARNING, INFO)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found.

    Attributes:
        rule: id of the rule, such as `DCP103`.
        severity: `error`, `warning` or `info`.
        subject: what it is about: an FQN, a file name, `.metadata`, `optimizer`. Raw: whoever
            prints it escapes it.
        message: what is wrong, in one line without a full stop; names in it are quoted already.
        file: the file that it lies in, relative to the checkpoint, where there is one.
        offset: byte offset in that file, where there is one.
    """

    rule: str
    severity: str
    subject: str
    message: str
    file: str | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A rule that could not run, or not on everything; it has found nothing there, nor passed.

    Attributes:
        rule: id of the rule.
        because: why, a clause.
    """

    rule: str
    because: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check came to.

    Attributes:
        path: the checkpoint.
        form: its form, as `Checkpoint.format`.
        target: the torch release that it was checked for; None if none was named or installed.
        findings: by rule, at most `CheckOptions.max_findings`; the gravest are kept.
        counts: all findings by severity, those left off included.
        skipped: rules that could not run, or not on everything.
        rules_run: ids of the rules that ran, in order.
        notes: what the reader must know of the check itself, such as what was sampled.
        items: storage items of the checkpoint.
        items_verified: of these, the ones whose every byte was read and compared.
        bytes_stored: bytes of all storage items.
        bytes_read: bytes read from the files to check their contents.
        waived: findings that a baseline lets pass; neither listed above nor counted.
        against: the earlier save that it was compared with.
        policy: the file of the policy that it was judged by.
        baseline: the file of the waivers.
        unused_waivers: waivers of rules that ran which let nothing pass here.
        metadata_file: the file that says what the checkpoint holds, relative to it; of several,
            the first part's.
    """

    path: Path
    form: str
    target: str | None
    findings: tuple[Finding, ...]
    counts: Counter[str] = field(default_factory=Counter)
    skipped: tuple[Skipped, ...] = ()
    rules_run: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    items: int = 0
    items_verified: int = 0
    bytes_stored: int = 0
    bytes_read: int = 0
    waived: tuple[Finding, ...] = ()
    against: Path | None = None
    policy: Path | None = None
    baseline: Path | None = None
    unused_waivers: tuple[Waiver, ...] = ()
    metadata_file: str = ".metadata"

    @property
    def left_off(self) -> int:
        """Findings beyond `max_findings`, which are counted and not listed."""
        return sum(self.counts.values()) - len(self.findings)

    @property
    def errors(self) -> int:
        """Number of error findings."""
        return self.counts[ERROR]

    @property
    def warnings(self) -> int:
        """Number of warning findings."""
        return self.counts[WARNING]

    @property
    def infos(self) -> int:
        """Number of info findings."""
        return self.counts[INFO]

    def failed(self, strict: bool = False) -> bool:
        """Whether the answer is no (exit code 1): there are errors or, if strict, warnings."""
        return bool(self.errors or (strict and self.warnings))


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A checkpoint that could not be checked at all.

    Attributes:
        path: where it is, or should be.
        error: why.
    """

    path: Path
    error: DcpctlError


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """The saves of one run that were checked.

    Attributes:
        path: the run's directory.
        saves: of these the paths, the oldest first.
        resume_from: the newest save without errors and with optimizer state, after no reset.
        why: why there is none, or why that was not looked at, a clause; empty if there is one.
    """

    path: Path
    saves: tuple[Path, ...]
    resume_from: Path | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check of one or more checkpoints came to; what reports are made of.

    Attributes:
        results: of each checkpoint that could be read, in the order asked.
        unreadable: the others.
        order: paths of all of them in the order asked, where that is known.
        runs: the runs that they are the saves of.
        unread: directories that were not looked into, and why.
    """

    results: tuple[CheckResult, ...]
    unreadable: tuple[Unreadable, ...] = ()
    order: tuple[Path, ...] = ()
    runs: tuple[CheckedRun, ...] = ()
    unread: tuple[tuple[Path, str], ...] = ()

    @property
    def counts(self) -> Counter[str]:
        """All findings of all results by severity."""
        return sum((result.counts for result in self.results), Counter())

    @property
    def unused_waivers(self) -> tuple[Waiver, ...]:
        """The waivers that let nothing pass in any of the results."""
        unused = dict.fromkeys(waiver for one in self.results for waiver in one.unused_waivers)
        return tuple(waiver for waiver in unused if not any(map(waiver.used_in, self.results)))

    def failed(self, strict: bool = False) -> bool:
        """Whether the answer is no: any result failed, or could not be had."""
        return bool(self.unreadable) or any(result.failed(strict) for result in self.results)
