"""What the rules of one check find, as it comes: counted, waived, and listed up to a limit."""

from __future__ import annotations

from collections import Counter

from dcpctl.check.baseline import Waived
from dcpctl.check.finding import SEVERITIES, Finding, Skipped
from dcpctl.check.options import CheckOptions
from dcpctl.check.registry import CannotRun, NotAsked, Rule
from dcpctl.check.run import Run
from dcpctl.errors import DcpctlError


class Collected:
    """Findings of all rules; of each rule no more are kept than may be listed.

    Args:
        options: of the check.

    Attributes:
        counts: findings by severity, those that are not listed included, waived ones not.
        skipped: rules that could not run, or not on everything.
        ran: ids of the rules that ran, in order.
        waived: the findings that the baseline lets pass.
    """

    def __init__(self, options: CheckOptions) -> None:
        self.most = options.max_findings
        self.severities = options.policy.severities if options.policy is not None else {}
        # Who asks for rules by name is told of those that had nothing to look at.
        self.named = bool(options.select)
        self.waived = Waived(options.baseline)
        self.counts: Counter[str] = Counter()
        self.skipped: list[Skipped] = []
        self.ran: list[str] = []
        # Sorted by gravity, then the how-manieth of its rule it is: no rule shall hide another.
        self._kept: list[tuple[int, int, Finding]] = []

    def take(self, rule: Rule, run: Run) -> None:
        """Run one rule."""
        seen: Counter[str] = Counter()
        found_any = False
        try:
            for hit in rule.find(run):
                found_any = True
                severity = self.severities.get(rule.id) or hit.severity or rule.severity
                found = Finding(rule.id, severity, hit.subject, hit.message, hit.file, hit.offset)
                if self.waived.takes(found):
                    continue
                self.counts[severity] += 1
                if self.most is None or seen[severity] < self.most:
                    self._kept.append((SEVERITIES.index(severity), seen[severity], found))
                seen[severity] += 1
        except NotAsked as error:
            if self.named:
                self.skipped.append(Skipped(rule.id, str(error) or "nothing asks for it"))
            return
        except (CannotRun, DcpctlError) as error:
            # What one rule cannot read, another one reports; this one says that it did not pass.
            why = error.message if isinstance(error, DcpctlError) else str(error)
            self.skipped.append(Skipped(rule.id, why))
            if not found_any:
                return
        self.ran.append(rule.id)

    def findings(self) -> tuple[Finding, ...]:
        """The findings to list, by rule: the gravest where not all may be."""
        if self.most is not None:
            self._kept.sort(key=lambda kept: kept[:2])
            del self._kept[self.most :]
        self._kept.sort(key=lambda kept: (kept[2].rule, *kept[:2]))
        return tuple(found for _, _, found in self._kept)
