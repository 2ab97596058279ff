"""Runs the rules over a checkpoint."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import ExitStack

from dcpctl.check.finding import SEVERITIES, CheckResult, Finding, Skipped
from dcpctl.check.options import CheckOptions
from dcpctl.check.registry import CannotRun, NotAsked, Rule, all_rules, explain, rules_of
from dcpctl.check.run import Run
from dcpctl.errors import DcpctlError
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.opening import open_checkpoint

__all__ = ["all_rules", "check_opened", "explain", "run_checks"]


def run_checks(path: str | os.PathLike[str], options: CheckOptions | None = None) -> CheckResult:
    """Check the checkpoint at `path`.

    Nothing in it is executed and nothing is written. Without `verify_data` the contents of the
    storage items are checked in a sample, always the same one; `CheckResult.notes` says of how
    much. Imports no torch.

    Args:
        path: as `open_checkpoint` takes it.
        options: what to check; by default every rule.

    Raises:
        NothingSelected: `select` or `ignore` names no rule, or leaves none.
        As `open_checkpoint`: what has no readable metadata cannot be checked, nor compared with.
    """
    options = options or CheckOptions()
    rules_of(options)  # before anything is read
    with ExitStack() as opened:
        checkpoint = opened.enter_context(open_checkpoint(path))
        against = None
        if options.against is not None:
            against = opened.enter_context(open_checkpoint(options.against))
        return check_opened(checkpoint, options, against)


def check_opened(
    checkpoint: Checkpoint, options: CheckOptions, against: Checkpoint | None = None
) -> CheckResult:
    """Check an opened checkpoint.

    Args:
        checkpoint: stays open.
        options: what to check; `against` in them is not looked at.
        against: the save of the same run that came before, opened; None to check this one alone.

    Raises:
        NothingSelected: as `run_checks`.
    """
    first = checkpoint.parts[0]
    run = Run(checkpoint, options, against)
    collected = _Collected(options)
    for rule in rules_of(options):
        collected.take(rule, run)
    return CheckResult(
        path=checkpoint.path,
        form=checkpoint.format,
        target=run.target,
        findings=collected.findings(),
        counts=collected.counts,
        skipped=tuple(collected.skipped),
        rules_run=tuple(collected.ran),
        notes=run.notes(),
        items=len(run.items),
        items_verified=run.scanned.verified if run.scanned else 0,
        bytes_stored=run.items.nbytes,
        bytes_read=run.scanned.bytes_read if run.scanned else 0,
        against=against.path if against is not None else None,
        policy=options.policy.path if options.policy is not None else None,
        metadata_file=first.located(first.stored.metadata_file),
    )


class _Collected:
    """Findings as they come; of each rule no more are kept than may be listed."""

    def __init__(self, options: CheckOptions) -> None:
        self.most = options.max_findings
        self.severities = options.policy.severities if options.policy is not None else {}
        # Who asks for rules by name is told of those that had nothing to look at.
        self.named = bool(options.select)
        self.counts: Counter[str] = Counter()
        self.skipped: list[Skipped] = []
        self.ran: list[str] = []
        # Sorted by gravity, then the how-manieth of its rule it is: no rule shall hide another.
        self._kept: list[tuple[int, int, Finding]] = []

    def take(self, rule: Rule, run: Run) -> None:
        """Run one rule."""
        before = sum(self.counts.values())
        seen: Counter[str] = Counter()
        try:
            for hit in rule.find(run):
                severity = self.severities.get(rule.id) or hit.severity or rule.severity
                self.counts[severity] += 1
                if self.most is None or seen[severity] < self.most:
                    found = Finding(
                        rule.id, severity, hit.subject, hit.message, hit.file, hit.offset
                    )
                    self._kept.append((SEVERITIES.index(severity), seen[severity], found))
                seen[severity] += 1
        except NotAsked as error:
            if self.named:
                self.skipped.append(Skipped(rule.id, str(error) or "nothing asks for it"))
            return
        except (CannotRun, DcpctlError) as error:
            # What one rule cannot read, another one reports; this one says that it did not pass.
            self.skipped.append(Skipped(rule.id, str(error)))
            if sum(self.counts.values()) == before:
                return
        self.ran.append(rule.id)

    def findings(self) -> tuple[Finding, ...]:
        """The findings to list, by rule: the gravest where not all may be."""
        if self.most is not None:
            self._kept.sort(key=lambda kept: kept[:2])
            del self._kept[self.most :]
        self._kept.sort(key=lambda kept: (kept[2].rule, *kept[:2]))
        return tuple(found for _, _, found in self._kept)
