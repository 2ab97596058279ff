"""The steps of an upgrade: each is a function with a name, found in the modules of `steps`.

A new file in that package is a new step.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from dcpctl.model.draft import Draft
from dcpctl.surgery.upgrade.context import Context


@dataclass(frozen=True, slots=True)
class Done:
    """What a step did.

    Attributes:
        draft: the result; the step's own input where it had nothing to do.
        changed: keys, values or entries that it changed.
        note: what it did, or why it did nothing that one might expect; may be empty.
    """

    draft: Draft
    changed: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What there is to say of one step.

    Attributes:
        name: of the step.
        changed: as `Done.changed`.
        note: as `Done.note`.
    """

    name: str
    changed: int
    note: str


Run = Callable[[Draft, Context], Done]


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        name: as users know it.
        order: steps run by ascending order.
        run: makes the change.
    """

    name: str
    order: int
    run: Run


_steps: dict[str, Step] = {}


def step(name: str, order: int) -> Callable[[Run], Run]:
    """Register the decorated function as a step."""
    taken = {other.order for other in _steps.values()}
    if name in _steps or order in taken:
        raise ValueError(f"step {name} or its order {order} is taken")

    def register(run: Run) -> Run:
        _steps[name] = Step(name, order, run)
        return run

    return register


@cache
def all_steps() -> tuple[Step, ...]:
    """Return every step, in the order in which they run."""
    from dcpctl.surgery.upgrade import steps

    for module in pkgutil.iter_modules(steps.__path__):
        importlib.import_module(f"{steps.__name__}.{module.name}")
    return tuple(sorted(_steps.values(), key=lambda found: found.order))
