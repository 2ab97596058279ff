"""Reshard: the same values on another number of ranks, or on another mesh.

Parameters and their optimizer state get the chunks that FSDP2 and DTensor would write, everything
else (scalars, buffers, RNG and dataloader state) stays whole and goes to the least loaded rank.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from typing import Any

import numpy as np

from dcpctl.errors import NothingSelected, Refused, UsageError, listed, quote
from dcpctl.formats import dtypes
from dcpctl.formats.records import Int64s
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.draft import BytesDraft, Draft, EntryDraft, Grid, TensorDraft
from dcpctl.model.entry import BytesEntry, TensorEntry
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.rank_keys import RankKeys, rank_keys, world_sizes
from dcpctl.model.sections import MODEL, classify, is_buffer
from dcpctl.model.shard_file import rank_words
from dcpctl.surgery.layouts import like
from dcpctl.surgery.layouts.grid import Boxes, cut
from dcpctl.surgery.layouts.placements import (
    Mesh,
    Placements,
    Replicate,
    Shard,
    parse_placements,
    usual_placements,
)

#: Bytes that a storage item costs besides its numbers: the archive around them.
ITEM_BYTES = 1500
#: Axis of a mesh that was given by its size only.
ONE_AXIS = "fsdp"
_MOST_RANKS = 1 << 20
#: What a new bytes entry is taken to hold, for the balance.
_VALUE_BYTES = 64


@dataclass(frozen=True, slots=True)
class ReshardOptions:
    """What layout is wanted; exactly one of the first two or `like`.

    Attributes:
        world_size: number of ranks, for FSDP2 over all of them.
        mesh: axis to size, the last axis fastest.
        placements: glob over FQNs and parameter names to placements (`parse_placements`), the
            first that matches counts; beside `world_size` or `mesh`.
        like: a checkpoint whose chunks are copied, key by key.
    """

    world_size: int | None = None
    mesh: Mapping[str, int] | None = None
    placements: Mapping[str, Any] | None = None
    like: Checkpoint | None = None


def reshard(draft: Draft, options: ReshardOptions) -> Draft:
    """Lay a checkpoint out anew; all its entries, one file a rank.

    Args:
        draft: the checkpoint; casts and other edits before it stand.
        options: the layout.

    Returns:
        A draft in which every tensor has a grid, every bytes entry a rank, and `world_size` is set.

    Raises:
        UsageError: the options contradict each other, or a size is no positive number.
        NothingSelected: a glob of the placements matches no tensor; `like` shares no key.
        Refused: a placement does not fit a tensor, or a shape differs in `like`.
    """
    return laid_out(draft, options)[0]


def laid_out(draft: Draft, options: ReshardOptions) -> tuple[Draft, dict[Placements, list[str]]]:
    """Do what `reshard` does, and say which placements nobody had asked for.

    Returns:
        The draft, and the placements that were assumed for a mesh, each with the parameters that
        got it; none for a world size, over which FSDP2 cuts all alike, or a copied layout.

    Raises:
        As `reshard`.
    """
    mesh = _mesh(options)
    layout = _Layout(draft, mesh, options.placements or {})
    fixed: dict[str, Grid] = {}
    if options.like is not None:
        fixed = like.grids(draft, options.like, layout.state_of)
    boxes = {
        fqn: layout.boxes(entry)
        for fqn, entry in draft.entries.items()
        if isinstance(entry, TensorDraft) and fqn not in fixed
    }
    layout.refuse_idle_globs()
    made = _assign(draft, math.prod(mesh.values()), boxes, fixed, options.like)
    return made, layout.assumed if options.mesh is not None else {}


def _mesh(options: ReshardOptions) -> dict[str, int]:
    ways = [options.world_size is not None, options.mesh is not None, options.like is not None]
    if sum(ways) != 1:
        raise UsageError("give one of a world size, a mesh, or a checkpoint whose layout to copy")
    if options.like is not None:
        if options.placements:
            raise UsageError("placements are for a world size or a mesh, not for a copied layout")
        return {ONE_AXIS: like.world_size(options.like)}
    mesh = dict(options.mesh or {ONE_AXIS: options.world_size or 0})
    if not mesh or any(size < 1 for size in mesh.values()):
        raise UsageError("a mesh has at least one axis, and each axis at least one rank")
    if math.prod(mesh.values()) > _MOST_RANKS:
        raise UsageError(f"{math.prod(mesh.values()):,} ranks are more than {_MOST_RANKS:,}")
    return mesh


class _Layout:
    """Decides what each tensor is cut into; remembers shapes that it has cut."""

    def __init__(self, draft: Draft, mesh: Mesh, placements: Mapping[str, Any]) -> None:
        self.mesh = mesh
        view = OptimizerView(draft)
        self.sections = view.sections
        self.names = {p.fqn: p.name for p in view.model}
        self.state_of: dict[str, tuple[Parameter, str]] = {
            entry.fqn: (parameter, slot)
            for parameter in view.parameters
            for slot, entry in parameter.slots.items()
        }
        self.globs = {glob: re.compile(translate(glob)).match for glob in placements}
        self.placements = placements
        self.used: set[str] = set()
        self.assumed: dict[Placements, list[str]] = {}
        self._cuts: dict[tuple[Any, ...], Boxes] = {}

    def boxes(self, entry: TensorDraft) -> Boxes:
        """The boxes of one tensor."""
        placements = self._placements(entry)
        key = (entry.shape, placements)
        if key not in self._cuts:
            try:
                self._cuts[key] = cut(entry.shape, self.mesh, placements)
            except Refused as error:
                raise Refused(f"{quote(entry.fqn)}: {error.message}", hint=error.hint) from None
        return self._cuts[key]

    def refuse_idle_globs(self) -> None:
        """Raise NothingSelected for globs that matched no tensor."""
        idle = [glob for glob in self.globs if glob not in self.used]
        if idle:
            raise NothingSelected(f"no tensor's name matches {listed(idle)} of the placements")

    def _placements(self, entry: TensorDraft) -> Placements:
        parameter, _ = self.state_of.get(entry.fqn, (None, ""))
        name = parameter.name if parameter else self.names.get(entry.fqn, entry.fqn)
        whole: Placements = tuple(Replicate() for _ in self.mesh)
        usual = whole
        if not self._stays_whole(entry, parameter):
            usual = usual_placements(name, len(entry.shape), self.mesh)
        called = [entry.fqn, name]
        if parameter is not None and parameter.fqn is not None:
            called.append(parameter.fqn)
        for glob, match in self.globs.items():
            if any(match(text) for text in called):
                self.used.add(glob)
                its_own = match(entry.fqn) is not None
                if its_own or parameter is None or parameter.shape == entry.shape:
                    return parse_placements(self.placements[glob], self.mesh, usual)
        if any(isinstance(p, Shard) and p.dim >= len(entry.shape) for p in usual):
            return whole
        if entry.fqn in self.names and usual != whole:
            self.assumed.setdefault(usual, []).append(name)
        return usual

    def _stays_whole(self, entry: TensorDraft, parameter: Parameter | None) -> bool:
        """Whether FSDP2 would leave a tensor whole: scalars, buffers and what is no parameter's.

        What the source has in several chunks is cut again, whatever it is.
        """
        if not entry.shape:
            return True
        if entry.source.entry is not None and _chunks(entry.source.entry) > 1:
            return False
        if parameter is not None:
            return parameter.shape != entry.shape and entry.numel <= 1
        if self.sections.of.get(entry.fqn) != MODEL:
            return True
        return is_buffer(entry.fqn, entry)


def _chunks(entry: TensorEntry) -> int:
    """Number of different chunks that are not empty."""
    chunks = entry.chunks
    full = (chunks.sizes > 0).all(axis=1)
    return len(np.unique(chunks.offsets[full], axis=0)) if full.any() else 0


class Loads:
    """Bytes that each rank's file is to hold so far.

    What several ranks could write goes to the least loaded one, as DCP does it.

    Args:
        world_size: number of ranks.
    """

    def __init__(self, world_size: int) -> None:
        self.bytes = np.zeros(world_size, dtype=np.int64)
        self._all = np.arange(world_size)

    def add(self, rank: int, nbytes: int) -> None:
        """Count an item of `nbytes` bytes of data that only one rank can write."""
        self.bytes[rank] += nbytes + ITEM_BYTES

    def give(self, nbytes: int, holders: Int64s | None = None) -> int:
        """Give an item to the least loaded of the ranks that hold it (the lowest of several).

        Args:
            nbytes: bytes of its data.
            holders: the ranks; None for all.
        """
        among = self._all if holders is None else holders
        rank = int(among[np.argmin(self.bytes[among])])
        self.add(rank, nbytes)
        return rank

    def spread(self, items: Iterable[tuple[int, Int64s | None]]) -> list[int]:
        """Give several items, in order."""
        return [self.give(nbytes, holders) for nbytes, holders in items]


def _assign(
    draft: Draft,
    world_size: int,
    boxes: Mapping[str, Boxes],
    fixed: Mapping[str, Grid],
    other: Checkpoint | None,
) -> Draft:
    """Choose the ranks: first count what only one can write, then spread the rest."""
    loads = Loads(world_size)
    for fqn, grid in fixed.items():
        itemsize = dtypes.itemsize(_tensor(draft, fqn).dtype)
        nbytes = grid.sizes.prod(axis=1) * itemsize
        for rank, size in zip(grid.rank.tolist(), nbytes.tolist(), strict=True):
            loads.add(rank, size)
    alone: dict[int, bool] = {}
    for fqn, found in boxes.items():
        single = alone.setdefault(id(found), all(len(held) == 1 for held in found.holders))
        if single:
            ranks = np.concatenate(found.holders)
            nbytes = found.sizes.prod(axis=1) * dtypes.itemsize(_tensor(draft, fqn).dtype)
            np.add.at(loads.bytes, ranks, nbytes + ITEM_BYTES)
    entries: list[EntryDraft] = []
    shared: dict[int, Grid] = {}
    for fqn, entry in draft.entries.items():
        if isinstance(entry, BytesDraft):
            entries.append(dataclasses.replace(entry, rank=_rank_of_value(entry, loads, other)))
        elif fqn in fixed:
            entries.append(dataclasses.replace(entry, grid=fixed[fqn]))
        else:
            found = boxes[fqn]
            if alone[id(found)]:
                grid = shared.setdefault(
                    id(found), Grid(found.offsets, found.sizes, np.concatenate(found.holders))
                )
            else:
                nbytes = found.sizes.prod(axis=1) * dtypes.itemsize(entry.dtype)
                given = loads.spread(zip(nbytes.tolist(), found.holders, strict=True))
                grid = Grid(found.offsets, found.sizes, np.array(given, dtype=np.int64))
            entries.append(dataclasses.replace(entry, grid=grid))
    changed = draft.with_entries(entries, draft.planner_data)
    return dataclasses.replace(changed, world_size=world_size)


def _tensor(draft: Draft, fqn: str) -> TensorDraft:
    entry = draft.entries[fqn]
    assert isinstance(entry, TensorDraft)
    return entry


def _rank_of_value(entry: BytesDraft, loads: Loads, other: Checkpoint | None) -> int:
    nbytes = _VALUE_BYTES if entry.source.entry is None else entry.source.entry.length
    theirs = other.entries.get(entry.fqn) if other is not None else None
    if isinstance(theirs, BytesEntry) and other is not None and theirs.file >= 0:
        rank = like.rank_of_file(other, theirs.file)
        loads.add(rank, nbytes)
        return rank
    return loads.give(nbytes)


def kept_by_rank(draft: Draft, ranks: int) -> list[str]:
    """Say what each rank kept for itself, and what a job of so many ranks makes of it.

    Args:
        draft: the checkpoint, before or after.
        ranks: of the new job.

    Returns:
        A sentence each; none where no key belongs to a rank, or nothing changes for the ranks.
    """
    of = classify(draft).of
    savers = max((len(source.ranks) for source in draft.sources), default=0)
    said = [sentence for keys in rank_keys(of, savers) if (sentence := _said(keys, ranks))]
    sizes = []
    for fqn in world_sizes(of):
        entry = draft.entries[fqn]
        value = entry.value if isinstance(entry, BytesDraft) else None
        if isinstance(value, int) and value != ranks:
            sizes.append(f"{fqn} ({value:,})")
    if sizes:
        said.append(f"{listed(sizes, 3)} is kept as it is; the layout is for {_count(ranks)}")
    return said


def _said(keys: RankKeys, ranks: int) -> str:
    missing = [rank for rank in range(ranks) if rank not in keys.ranks]
    unused = [rank for rank in keys.ranks if rank >= ranks]
    if not missing and not unused:
        return ""
    effects = []
    if missing:
        effects.append(
            f"a job on {_count(ranks)} that asks for {keys.of(missing[0])} finds nothing for "
            f"{rank_words(missing)}, and its load fails"
        )
    if unused:
        effects.append(f"what {rank_words(unused)} had is left unread on {_count(ranks)}")
    return f"{keys.words} is kept by rank, as it is: {'; '.join(effects)}"


def _count(ranks: int) -> str:
    return f"{ranks:,} rank{'' if ranks == 1 else 's'}"
