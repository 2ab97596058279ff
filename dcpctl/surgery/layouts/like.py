"""The layout of another checkpoint: its chunks and ranks, key by key."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dcpctl.errors import NothingSelected, Refused, listed, quote
from dcpctl.model import boxes
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.draft import Draft, Grid, TensorDraft
from dcpctl.model.entry import TensorEntry
from dcpctl.model.optimizer.coverage import Parameter


def world_size(other: Checkpoint) -> int:
    """The number of ranks that a checkpoint was written by, as its file names say; at least 1."""
    return max((rank_of_file(other, file) + 1 for file in range(len(other.files))), default=1)


def rank_of_file(other: Checkpoint, file: int) -> int:
    """The rank that wrote a file; files whose names tell none count as a rank each."""
    rank = other.files[file].rank
    return file if rank is None else rank


def grids(
    draft: Draft, other: Checkpoint, state_of: Mapping[str, tuple[Parameter, str]]
) -> dict[str, Grid]:
    """Return the grids of another checkpoint for the tensors that it has too.

    Optimizer state that the other has not (a model without optimizer) lies as its parameter does.

    Args:
        draft: the checkpoint to lay out.
        other: the checkpoint to copy from.
        state_of: FQN of a state entry to its parameter and slot.

    Raises:
        NothingSelected: they have no tensor in common.
        Refused: a tensor has another shape there, or its chunks there do not cover it.
    """
    found: dict[str, Grid] = {}
    differ: list[str] = []
    holes: list[str] = []
    sound: dict[tuple[bytes, bytes], bool] = {}
    for fqn, entry in draft.entries.items():
        if not isinstance(entry, TensorDraft):
            continue
        theirs = other.entries.get(fqn)
        if theirs is None and fqn in state_of:
            parameter, _ = state_of[fqn]
            model = other.entries.get(parameter.fqn or "")
            theirs = model if getattr(model, "shape", None) == entry.shape else None
        if not isinstance(theirs, TensorEntry):
            continue
        if theirs.shape != entry.shape:
            differ.append(fqn)
            continue
        grid = _grid(theirs, other)
        key = (grid.offsets.tobytes(), grid.sizes.tobytes() + repr(entry.shape).encode())
        if key not in sound:
            sound[key] = _tiles(entry.shape, grid)
        if sound[key]:
            found[fqn] = grid
        else:
            holes.append(fqn)
    if differ:
        raise Refused(f"other shapes in {quote(other.path)}: {listed(differ)}")
    if holes:
        raise Refused(
            f"in {quote(other.path)} chunks leave holes or overlap: {listed(holes)}",
            hint="dcpctl check says which elements",
        )
    if not found:
        raise NothingSelected(f"{quote(other.path)} has no tensor of the same name")
    return found


def _grid(entry: TensorEntry, other: Checkpoint) -> Grid:
    chunks = entry.chunks
    if chunks.offsets.shape[1]:
        _, first = np.unique(chunks.offsets, axis=0, return_index=True)
        rows = np.sort(first)
    else:
        rows = np.arange(min(1, len(chunks)))
    ranks = [rank_of_file(other, file) if file >= 0 else 0 for file in chunks.file[rows].tolist()]
    return Grid(chunks.offsets[rows], chunks.sizes[rows], np.array(ranks, dtype=np.int64))


def _tiles(shape: tuple[int, ...], grid: Grid) -> bool:
    ends = grid.offsets + grid.sizes
    inside = (grid.offsets >= 0).all() and (grid.sizes >= 0).all() and (ends <= shape).all()
    if not inside or int(grid.sizes.prod(axis=1).sum()) != int(np.prod(shape, dtype=np.int64)):
        return False
    places = [
        tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        for low, high in zip(grid.offsets.tolist(), ends.tolist(), strict=True)
    ]
    return boxes.cover(shape, places)
