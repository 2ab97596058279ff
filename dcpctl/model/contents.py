"""What tells parts of one save from saves of a run where their names do not: their contents."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dcpctl.errors import DcpctlError
from dcpctl.formats.layouts import find_reader
from dcpctl.formats.records import StoredCheckpoint
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.sections import DATALOADER, OPTIMIZER, RNG, SCHEDULER
from dcpctl.model.witnesses import COUNT, counts_in
from dcpctl.storage.local import LocalStorage

# Stages of a pipeline have the job's state in common, and saves of a run nearly everything.
_MOST_COMMON = 0.5


@dataclass(frozen=True, slots=True)
class _Contents:
    """What one directory holds; nothing is known of one without readable metadata."""

    known: bool = False
    keys: frozenset[str] = frozenset()
    model: bool = False
    optimizer: bool = False
    step: float | None = None


def complete_each_other(parts: Sequence[Sequence[Path]]) -> bool:
    """Whether directories hold different things of one step, as the parts of one save do.

    Different keys alone prove nothing: so do checkpoints of two models. Some part must lack what
    another has (a model without its optimizer), or they must be at one step.

    Args:
        parts: the checkpoints of each directory.
    """
    found: list[_Contents] = []
    for paths in parts:
        held = _survey(paths)
        if any(_overlap(held.keys, others.keys) for others in found):
            return False
        found.append(held)
    known = [held for held in found if held.known]
    steps = [held.step for held in known if held.step is not None]
    if len({*steps}) > 1 or not known:
        return False
    halves = [held for held in known if held.model != held.optimizer]
    if len(known) < len(found):  # a part that was interrupted may be the other half
        return len(halves) == len(known)
    both = any(held.model for held in halves) and any(held.optimizer for held in halves)
    return both or len(steps) > 1


def step_inside(parts: Sequence[Path]) -> float | None:
    """The step that the optimizer of a save counted, else the job; None where nothing tells it."""
    return _survey(parts).step


def holds_optimizer(path: Path) -> bool:
    """Whether a checkpoint has optimizer state or param groups; False if it cannot be read."""
    return _survey([path]).optimizer


def holds_model_or_state(parts: Sequence[Path]) -> bool:
    """Whether a save has a model or an optimizer; True if it cannot be read."""
    held = _survey(parts)
    return not held.known or held.model or held.optimizer


def is_export(view: OptimizerView) -> bool:
    """Whether a checkpoint holds a model and nothing of the job that trained it.

    A save that lost its optimizer still has the job's scheduler, data position or count of steps.
    """
    job = {SCHEDULER, DATALOADER, RNG, OPTIMIZER} & {*view.sections.of.values()}
    counted = any(w.kind == COUNT for w in view.witnesses.sure)
    return bool(view.sections.model) and not job and not counted and not view.optimizers


def _overlap(keys: frozenset[str], others: frozenset[str]) -> bool:
    least = min(len(keys), len(others))
    return least > 0 and len(keys & others) > _MOST_COMMON * least


def _part(path: Path, opened: ExitStack) -> tuple[str, LocalStorage, StoredCheckpoint] | None:
    try:
        storage = opened.enter_context(LocalStorage(path))
        reader = find_reader(storage.names())
        return None if reader is None else (path.name, storage, reader.read(storage))
    except DcpctlError:
        return None


def _survey(paths: Sequence[Path]) -> _Contents:
    with ExitStack() as opened:
        parts = [part for path in paths if (part := _part(path, opened)) is not None]
        if not parts:
            return _Contents()
        checkpoint = Checkpoint(Path(paths[0]), parts)
        view = OptimizerView(checkpoint)
        steps = [step for step in view.steps if step == step]
        if not steps:
            steps = [w.step for w in counts_in(checkpoint.entries, view.sections.of) if w.sure]
        return _Contents(
            True,
            frozenset(checkpoint.entries),
            bool(view.sections.model),
            bool(view.optimizers),
            max(steps, default=None),
        )
