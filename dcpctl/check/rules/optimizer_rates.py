"""DCP5xx: is the learning rate the one that its scheduler set?"""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.finding import ERROR, WARNING
from dcpctl.check.rates import as_scheduled, same, scheduled
from dcpctl.check.registry import Hit, rule
from dcpctl.check.run import Run


@rule("DCP520", WARNING, "a learning rate is not the one that its scheduler set")
def not_as_scheduled(run: Run) -> Iterator[Hit]:
    """`lr` of each param group against what the scheduler that began with its `initial_lr` set."""
    found: dict[tuple[float, float], list[str]] = {}
    for parameter, rate, last in scheduled(run.optimizer):
        if not any(same(rate, other) for other in last):
            found.setdefault((rate, last[0]), []).append(parameter.name)
    if not found:
        return
    before = {} if run.history is None else as_scheduled(run.history.earlier.view)
    if not all(before.values()):
        return  # something sets the rate after the scheduler
    for (rate, wanted), names in found.items():
        since = f"; in {run.since().earlier.name} it was" if before else ""
        yield Hit(
            "param_groups.lr",
            f"lr is {rate:g} for {words.count(len(names), 'parameter')} ({words.some(names)}), and "
            f"not {wanted:g}, which the scheduler set last{since}",
            severity=ERROR if before else None,
        )
