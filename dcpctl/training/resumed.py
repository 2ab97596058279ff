"""`assert_resumed`: whether memory holds what the checkpoint has, right after a load."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from dcpctl.errors import listed, quote
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.training.comparing import STEP, WEIGHT, Comparer, Comparison, Difference
from dcpctl.training.errors import UnresumedState
from dcpctl.training.opened import opened

#: Differences that a rank tells the others.
_MOST_SENT = 10_000
_MOST_SWAPS_NAMED = 5
_MOST_STEPS = 3
_FIX = (
    "fix: give dcp.load the state dicts of both (StrictLoadPlanner refuses to leave one out), put "
    "them back with set_state_dict, and call this before the first step"
)


def assert_resumed(
    model: nn.Module | Iterable[nn.Module],
    optimizer: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | None,
    checkpoint: str | os.PathLike[str] | Checkpoint,
    *,
    ignore: Sequence[str] = (),
    samples: int = 3,
    process_group: Any = None,
) -> None:
    """Raise unless the model and the optimizer hold what the checkpoint has.

    Call it after the load and before the first step, on every rank. Each rank reads some numbers
    of its own shards from disk, by ranges, and compares them bit for bit with those in memory; no
    tensor is gathered. The verdict is the same on all ranks.

    Args:
        model: a module, or several; plain, or under DDP, FSDP1, FSDP2 or tensor parallelism.
        optimizer: an optimizer, or several; None compares the model alone.
        checkpoint: its directory, or an open one.
        ignore: globs of parameter names (without wrappers) that may differ.
        samples: places that are looked at in each tensor, 32 neighbouring numbers at each; one is
            enough where these are not all the same.
        process_group: the ranks that call it; all if None.

    Raises:
        UnresumedState: the optimizer was reset, a part of it or of the model was not restored, or
            parameters hold one another's values; the message names them. Also where another rank
            failed.
        InputError, ReadFailed: this rank cannot read the checkpoint.
    """
    models = [model] if isinstance(model, nn.Module) else list(model)
    optimizers = [] if optimizer is None else _optimizers(optimizer)
    together = dist.is_available() and dist.is_initialized()
    rank = dist.get_rank(process_group) if together else 0
    mine: Comparison | str
    failure: Exception | None = None
    try:
        with opened(checkpoint) as source:
            comparer = Comparer(source, ignore=_listed(ignore), samples=samples, rank=rank)
            mine = comparer.compare(models, optimizers)
            del mine.differences[_MOST_SENT:]
    except Exception as error:
        failure, mine = error, f"{type(error).__name__}: {error}"
    every: list[Comparison | str] = [mine]
    if together:
        every = [mine] * dist.get_world_size(process_group)
        dist.all_gather_object(every, mine, group=process_group)
    if failure is not None:
        raise failure
    for number, theirs in enumerate(every):
        if isinstance(theirs, str):
            raise UnresumedState(f"rank {number} could not compare its state: {theirs}")
    text = verdict([one for one in every if isinstance(one, Comparison)], bool(optimizers))
    if text:
        raise UnresumedState(text)


def _optimizers(
    optimizer: torch.optim.Optimizer | Iterable[torch.optim.Optimizer],
) -> list[torch.optim.Optimizer]:
    """The optimizers; a container of several may itself be an Optimizer (torchtitan's is)."""
    return list(optimizer) if isinstance(optimizer, Iterable) else [optimizer]


def _listed(globs: Sequence[str]) -> Sequence[str]:
    return (globs,) if isinstance(globs, str) else globs


def verdict(every: Sequence[Comparison], with_optimizer: bool) -> str:
    """Say what all ranks together found wrong; empty where nothing is.

    Args:
        every: what each rank found.
        with_optimizer: an optimizer was given.
    """
    differences = [one for rank in every for one in rank.differences]
    weights = {name for rank in every for name in rank.weights}
    lines = [*_weights(differences, weights)]
    if with_optimizer and not any(rank.has_optimizer for rank in every):
        lines.append(
            "the checkpoint has no optimizer state, so that none can have been restored from it"
        )
    lines += _states(differences, every)
    lines += _swaps(differences)
    uncompared = sorted({name for rank in every for name in rank.known} - weights)
    if uncompared:
        lines.append(
            f"{len(uncompared):,} parameters are held in a form that cannot be compared: "
            f"{listed(uncompared)}"
        )
    if not lines and not weights:
        lines.append("the model has no parameter that the checkpoint has")
    if not lines:
        return ""
    lines.append(_FIX)
    first, *rest = lines
    return "\n  ".join([f"memory does not hold what the checkpoint has: {first}", *rest])


def _weights(differences: Sequence[Difference], compared: set[str]) -> Iterator[str]:
    mine = [one for one in differences if one.slot == WEIGHT]
    unknown = _names(one for one in mine if one.kind == "unknown")
    wrong = _names(one for one in mine if one.kind != "unknown")
    if wrong:
        parameters = [name for name in wrong if name in compared]
        what = f"{len(parameters):,} of {len(compared):,} parameters"
        if not parameters:
            what = f"{len(wrong):,} buffer{'' if len(wrong) == 1 else 's'}"
        all_ = parameters and len(parameters) == len(compared)
        head = "the model was not loaded" if all_ else "the model was loaded in part"
        yield f"{head}: {what} differ: {listed(wrong)}"
    if unknown:
        yield (
            f"the checkpoint does not have {len(unknown):,} of the model's parameters: "
            f"{listed(unknown)}"
        )


def _states(differences: Sequence[Difference], every: Sequence[Comparison]) -> Iterator[str]:
    mine = [one for one in differences if one.slot != WEIGHT]
    unknown = _names(one for one in mine if one.kind == "unknown")
    wrong = [one for one in mine if one.kind != "unknown"]
    if wrong:
        names = _names(wrong)
        compared = {name for rank in every for name in rank.states}
        yield (
            f"{_head(wrong, compared, {slot for rank in every for slot in rank.slots})}: "
            f"{len(names):,} of {len(compared):,} parameters differ: {listed(names)}"
        )
        slots = dict.fromkeys(one.slot for one in wrong)
        yield f"in what state: {', '.join(_slot_text(slot, wrong) for slot in slots)}"
        if STEP in slots:
            has = [one.memory for one in wrong if one.slot == STEP and one.memory is not None]
            wants = [step for rank in every for step in rank.disk_steps]
            yield f"step: {_numbers(has)} in memory, {_numbers(wants)} on disk"
    if unknown:
        yield (
            f"the checkpoint has no optimizer state for {len(unknown):,} parameters: "
            f"{listed(unknown)}"
        )


def _head(wrong: Sequence[Difference], compared: set[str], slots: set[str]) -> str:
    """What has happened to the optimizer, in a clause."""
    fresh = [one for one in wrong if _is_fresh(one)]
    everywhere = {one.name for one in fresh} == compared
    if everywhere and len(fresh) == len(wrong) and {one.slot for one in fresh} >= slots - {STEP}:
        return "the optimizer was reset"
    if all(one.holds for one in wrong):
        return "the optimizer's state belongs to other parameters"
    return "the optimizer was restored in part"


def _numbers(steps: Iterable[float]) -> str:
    """The first of some steps."""
    return ", ".join(f"{step:g}" for step in sorted(set(steps))[:_MOST_STEPS]) or "none"


def _is_fresh(one: Difference) -> bool:
    """Whether a difference is what a new optimizer leaves: nothing, zeros, a lower step."""
    if one.kind in ("lacking", "zero"):
        return True
    return one.memory is not None and one.disk is not None and one.memory < one.disk


def _slot_text(slot: str, wrong: Sequence[Difference]) -> str:
    """`exp_avg (21 are zero)`."""
    words = {"lacking": "not there", "zero": "zero", "differs": "other numbers", "shape": "shape"}
    counts: dict[str, set[str]] = {}
    for one in wrong:
        if one.slot == slot:
            counts.setdefault(words[one.kind], set()).add(one.name)
    return f"{slot} ({', '.join(f'{len(names):,} {what}' for what, names in counts.items())})"


def _swaps(differences: Sequence[Difference]) -> Iterator[str]:
    """What stands under another's name; one line a slot and pair, the first few."""
    pairs = list(dict.fromkeys((o.slot, o.name, o.holds) for o in differences if o.holds))
    for slot, name, holds in pairs[:_MOST_SWAPS_NAMED]:
        what = "" if slot == WEIGHT else f"{slot} of "
        yield f"swapped: {what}{quote(name)} holds what the checkpoint has for {quote(holds)}"
    if len(pairs) > _MOST_SWAPS_NAMED:
        yield f"and {len(pairs) - _MOST_SWAPS_NAMED:,} more swapped"


def _names(differences: Iterable[Difference]) -> list[str]:
    return list(dict.fromkeys(one.name for one in differences))
