"""Learning rates of param groups, and those that their schedulers set."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.view import OptimizerView

# Rates that are one but for float32's rounding of a rate that is a tensor.
_ROUNDING = 1e-5


def scheduled(view: OptimizerView) -> Iterator[tuple[Parameter, float, list[float]]]:
    """Parameters, their rates, and those that the schedulers set for groups with such a beginning.

    A scheduler writes the rate that it begins with into the groups that it drives, as
    `initial_lr` (torch/optim/lr_scheduler.py). Parameters without one are left out.
    """
    pairs = [pair for schedule in view.witnesses.schedules for pair in schedule.rates]
    for parameter in view.parameters if pairs else ():
        rate, began = number_of(parameter, "lr"), number_of(parameter, "initial_lr")
        if rate is None or began is None:
            continue
        last = [last for base, last in pairs if same(base, began)]
        if last:
            yield parameter, rate, last


def as_scheduled(view: OptimizerView) -> dict[tuple[str, str], bool]:
    """Whether each parameter, by root and name, has the rate that its known scheduler set."""
    return {
        (parameter.root, parameter.name): any(same(rate, other) for other in last)
        for parameter, rate, last in scheduled(view)
    }


def number_of(parameter: Parameter, key: str) -> float | None:
    """A finite number in the parameter's group; None for everything else."""
    if key not in parameter.values:
        return None
    value = parameter.values[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def same(one: float, other: float) -> bool:
    """Whether two rates are one, but for rounding."""
    return math.isclose(one, other, rel_tol=_ROUNDING, abs_tol=1e-15)
