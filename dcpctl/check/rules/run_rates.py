"""DCP6xx: did the learning rate go on from the save before?"""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.finding import WARNING
from dcpctl.check.rates import as_scheduled, number_of
from dcpctl.check.registry import Hit, rule
from dcpctl.check.run import Run

# A rate that nobody schedules grows so many times between two saves at most, or twice as much as
# the steps did, which a warm-up from zero does.
_GROWTH, _WARM_UP = 10.0, 2.0
# What the groups know of their schedule's peak.
_PEAKS = ("initial_lr", "max_lr")


@rule("DCP611", WARNING, "a learning rate jumped since the save before")
def jumped(run: Run) -> Iterator[Hit]:
    """`lr` of each parameter in both saves, where no scheduler explains it."""
    history = run.since()
    of_schedulers = as_scheduled(run.optimizer)
    earlier = {(p.root, p.name): p for p in history.earlier.view.parameters}
    before, after = history.earlier.step, history.later.step
    grown = after / before if before and after and after > before else 1.0
    most = max(_GROWTH, _WARM_UP * grown)
    found: dict[tuple[float, float], list[str]] = {}
    for parameter in history.later.view.parameters:
        key = (parameter.root, parameter.name)
        old = earlier.get(key)
        rate = number_of(parameter, "lr")
        if old is None or rate is None or key in of_schedulers:
            continue  # DCP520 says whether the scheduler set it
        was = number_of(old, "lr")
        told = [was, *(number_of(one, peak) for one in (old, parameter) for peak in _PEAKS)]
        known = [number for number in told if number is not None and number > 0]
        if was is not None and known and rate > most * max(known):
            found.setdefault((was, rate), []).append(parameter.name)
    for (old_rate, rate), names in found.items():
        yield Hit(
            "param_groups.lr",
            f"lr is {rate:g} here and {old_rate:g} in {history.earlier.name}, for "
            f"{words.count(len(names), 'parameter')} ({words.some(names)}), and nothing in the "
            "checkpoint explains it",
        )
