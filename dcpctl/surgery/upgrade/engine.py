"""The steps of an upgrade, what they are told, and how they run one after the other.

A step is a function with a name, found in the modules of `steps`; a new file there is a new step.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

from dcpctl import torch_bridge
from dcpctl.errors import UsageError, quote
from dcpctl.formats.records import StoredCheckpoint
from dcpctl.model.draft import Draft
from dcpctl.model.optimizer.catalogue import catalogue, version_key
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.releases import check_release
from dcpctl.surgery.upgrade import FILLS, OPTIMIZER_KEYS, Upgrade


@dataclass(slots=True)
class Context:
    """The choices of one upgrade.

    Attributes:
        torch: the target release, such as `2.13`.
        optimizer: class name in torch.optim that the user gave, or None.
        optimizer_keys: `fqn`, `index`, `flat` or None.
        fill_missing_state: `zeros` or None.
        wrappers: as `Upgrade` has it.
    """

    torch: str
    optimizer: str | None = None
    optimizer_keys: str | None = None
    fill_missing_state: str | None = None
    wrappers: bool | None = None
    _view: tuple[Draft, OptimizerView] | None = field(default=None, repr=False)

    @property
    def release(self) -> tuple[int, ...]:
        """Major and minor number of the target."""
        return version_key(self.torch)[:2]

    @property
    def catalogued(self) -> str:
        """The newest release in the catalogue of optimizers that is no newer than the target."""
        return catalogue().release_for(self.torch)

    @property
    def flattens(self) -> bool:
        """Whether the target opens all mappings (2.4 and later) or keeps plain ones whole."""
        return self.release >= (2, 4)

    def view(self, draft: Draft) -> OptimizerView:
        """The optimizer view of a draft; made once as long as the draft stays the same."""
        if self._view is None or self._view[0] is not draft:
            self._view = (draft, OptimizerView(draft))
        return self._view[1]


def stored_parts(draft: Draft) -> Iterator[StoredCheckpoint]:
    """What the metadata of each directory that the draft is made of says."""
    for source in draft.sources:
        for part in source.parts:
            yield part.stored


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


def upgrade(draft: Draft, options: Upgrade) -> tuple[Draft, list[StepReport]]:
    """Bring a checkpoint into the form that a torch release loads; newer or older than its own.

    Args:
        draft: the checkpoint.
        options: the target and the choices.

    Returns:
        The result and a report of each step. Where no step changed anything the draft is the one
        that was given.

    Raises:
        UsageError: an unknown release, optimizer or choice.
        Refused: something would be guessed or lost; the message says what and which option tells.
    """
    context = _context(options)
    reports = []
    for step in all_steps():
        done = step.run(draft, context)
        reports.append(StepReport(step.name, done.changed, done.note))
        draft = done.draft
    return draft, reports


def _context(options: Upgrade) -> Context:
    torch = torch_bridge.installed_version() if options.torch is None else options.torch
    if torch is None:
        raise UsageError(
            "torch is not installed here, so that no release is meant by default",
            hint="give one: --torch 2.13",
        )
    if options.torch is not None:
        check_release(options.torch)
    if options.optimizer_keys not in (None, *OPTIMIZER_KEYS):
        raise UsageError(
            f"{quote(options.optimizer_keys)} is no way to name an optimizer's parameters",
            hint=f"one of {', '.join(OPTIMIZER_KEYS)}",
        )
    if options.fill_missing_state not in (None, *FILLS):
        raise UsageError(
            f"state cannot be filled with {quote(options.fill_missing_state)}", hint="zeros"
        )
    named = None if options.optimizer is None else optimizer_named(options.optimizer)
    return Context(
        torch, named, options.optimizer_keys, options.fill_missing_state, options.wrappers
    )


def optimizer_named(text: str) -> str:
    """Return the class name in torch.optim that `text` means, in any case.

    Raises:
        UsageError: torch has no such optimizer.
    """
    names = {name.lower(): name for name in catalogue().torch}
    found = names.get(text.lower().removeprefix("torch.optim."))
    if found is None:
        raise UsageError(
            f"torch.optim has no {quote(text)}", hint=f"one of {', '.join(sorted(names))}"
        )
    return found
