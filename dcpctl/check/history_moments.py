"""Reads the moments of two saves side by side: the same numbers of both, whatever the layouts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dcpctl.check import words
from dcpctl.check.estimate import (
    DECAYS,
    MONOTONE,
    Floats,
    Tally,
    coarser,
    comparable,
    decay_of,
    reach,
)
from dcpctl.check.history import History
from dcpctl.errors import DcpctlError
from dcpctl.formats.arrays import distinct
from dcpctl.model import boxes
from dcpctl.model.entry import TensorEntry
from dcpctl.model.fqn import is_index
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.source import BUCKETS

Box = tuple[tuple[int, ...], tuple[int, ...]]

#: Most parameters that a sample looks at, most numbers of each, and in how many places.
_SAMPLE_PARAMETERS = 256
_SAMPLE_NUMBERS = 16_384
_SAMPLE_PLACES = 4
#: Slots of optimizers that keep their moments in a basis that turns (SOAP).
_BASES = frozenset({"GG", "Q"})
#: Numbers of one block where all are read.
_BLOCK_NUMBERS = 1 << 20


@dataclass(slots=True)
class Compared:
    """The second moments that two saves have in common.

    Attributes:
        tallies: what was counted of each.
        expected: how many there are.
        whole: every number of them was read.
        unread: entries that could not be read, and why.
    """

    tallies: list[Tally] = field(default_factory=list)
    expected: int = 0
    whole: bool = False
    unread: dict[str, str] = field(default_factory=dict)

    def note(self, history: History, *, shown: bool) -> str:
        """Return what the reader must know of the comparison; empty if nothing was compared.

        Args:
            history: the two saves.
            shown: a restart was found.
        """
        if not self.tallies:
            return ""
        steps = words.count(history.steps or 0, "step")
        part = "" if self.whole else ", in part"
        said = (
            f"Of {words.count(self.expected, 'second moment')}, {len(self.tallies):,} were "
            f"compared with those of {history.earlier.name}, {steps} before{part}."
        )
        slowest = max((tally.decay for tally in self.tallies if tally.decay < 1), default=1.0)
        back = reach(slowest)
        # Half of it nearly always, all of it where some numbers rest (tests/studies/resets.py).
        if shown or back is None or (history.steps or 0) <= back // 2:
            return said
        return (
            f"{said} With a decay of {slowest:g} they see some {back // 2:,} to {back:,} steps "
            "back, so that a restart in between may not show in them."
        )


@dataclass(frozen=True, slots=True)
class _Pair:
    """One slot of one parameter in both saves; first moments where both have them."""

    tally: Tally
    slots: tuple[TensorEntry, TensorEntry]
    firsts: tuple[TensorEntry, TensorEntry] | None


def compare_moments(history: History, steps: int, *, whole: bool) -> Compared:
    """Count the second moments of both saves: all numbers, or always the same sample.

    Args:
        history: the two saves.
        steps: steps between them, at most.
        whole: read every number.
    """
    pairs = list(_pairs(history, steps))
    compared = Compared(expected=len(pairs), whole=whole)
    if not whole and len(pairs) > _SAMPLE_PARAMETERS:
        picked = distinct(np.linspace(0, len(pairs) - 1, _SAMPLE_PARAMETERS).astype(int))
        pairs = [pairs[index] for index in picked.tolist()]
    for pair in pairs:
        _add(compared, pair)
    return compared


def _add(compared: Compared, pair: _Pair) -> None:
    try:
        _count(pair, compared.whole)
        compared.tallies.append(pair.tally)
    except DcpctlError as error:
        compared.unread[pair.tally.fqn] = error.message


def _pairs(history: History, steps: int) -> Iterator[_Pair]:
    if not _same_indices(history):
        return
    earlier = {(p.root, p.name): p for p in history.earlier.view.parameters}
    for parameter in history.later.view.parameters:
        before = earlier.get((parameter.root, parameter.name))
        if before is None or _BASES & {*parameter.slots}:
            continue
        for slot in parameter.slots:
            if slot not in DECAYS and slot not in MONOTONE:
                continue
            slots = _both(history, before, parameter, slot)
            decays = [decay_of(slot, p.values) for p in (before, parameter)]
            if slots is None or None in decays:
                continue
            decay = min(decay for decay in decays if decay is not None)
            dtype = coarser(slots[0].dtype, slots[1].dtype)
            tally = Tally(parameter.name, slot, slots[1].fqn, decay, steps, dtype)
            firsts = _both(history, before, parameter, "exp_avg") if slot == "exp_avg_sq" else None
            yield _Pair(tally, slots, firsts)


def _same_indices(history: History) -> bool:
    """Whether indices that have no names mean the same parameters in both saves."""
    before, after = (
        {(p.root, p.name): p.shape for p in save.view.parameters if is_index(p.name)}
        for save in (history.earlier, history.later)
    )
    return not after or before == after


def _both(
    history: History, before: Parameter, after: Parameter, slot: str
) -> tuple[TensorEntry, TensorEntry] | None:
    """The slot's entries in both saves, if they can be compared number by number."""
    found = []
    for save, parameter in ((history.earlier, before), (history.later, after)):
        state = parameter.slots.get(slot)
        entry = save.checkpoint.entries.get(state.fqn) if state is not None else None
        if not isinstance(entry, TensorEntry) or not entry.numel or not comparable(entry.dtype):
            return None
        found.append(entry)
    first, last = found
    if first.shape != last.shape:
        return None
    # A bucket's numbers belong to other parameters when the ranks share them otherwise.
    bucketed = any(
        raw.style == BUCKETS and raw.root == after.root for raw in history.later.view.optimizers
    )
    if bucketed and not np.array_equal(first.chunks.offsets, last.chunks.offsets):
        return None
    return first, last


def _count(pair: _Pair, whole: bool) -> None:
    # A compressed chunk is decompressed whole for every box in it.
    squeezed = any(entry.stored.transforms for entry in pair.slots)
    places = 1 if squeezed else _SAMPLE_PLACES
    for starts, stops in _boxes(pair.slots[0].shape, whole, places):
        key = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
        before, after = (entry[key] for entry in pair.slots)
        firsts: tuple[Floats, Floats] | None = None
        if pair.firsts is not None:
            firsts = (pair.firsts[0][key], pair.firsts[1][key])
        pair.tally.add(before, after, firsts)


def _boxes(shape: tuple[int, ...], whole: bool, places: int) -> Iterator[Box]:
    """The boxes of a tensor to read: all of it, or a few spread over its first dim."""
    if whole or math.prod(shape) <= _SAMPLE_NUMBERS:
        yield from boxes.split(shape, _BLOCK_NUMBERS)
        return
    most = _SAMPLE_NUMBERS // places
    sizes = list(shape)
    for dim in range(len(shape)):
        # As many of this dim as fit, once all behind it are whole; else one of it, and look on.
        behind = math.prod(shape[dim + 1 :])
        sizes[dim] = max(1, min(shape[dim], most // behind))
        if sizes[dim] > 1 or behind <= most:
            break
    for place in range(places):
        starts = tuple(
            (extent - size) * place // max(1, places - 1)
            for extent, size in zip(shape, sizes, strict=True)
        )
        yield starts, tuple(a + size for a, size in zip(starts, sizes, strict=True))
