"""The elements of a tensor that a rank holds, and where in the whole tensor they stand.

FSDP2, tensor parallelism and their product hold boxes (`DTensor`), FSDP1 holds a range of the
flattened tensor, DDP and plain modules hold all of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.checkpoint.planner_helpers import _create_chunk_list

from dcpctl.training.asked import spec_of


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring elements of a tensor: a piece of one row.

    Attributes:
        row: indices in all dimensions but the last.
        start: first index in the last dimension.
        stop: one after the last index.
    """

    row: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Box:
    """An N-d box of a tensor.

    Attributes:
        shape: elements per dimension of the whole tensor.
        offsets: where the box begins.
        local: the box's elements.
    """

    shape: tuple[int, ...]
    offsets: tuple[int, ...]
    local: torch.Tensor

    @property
    def numel(self) -> int:
        """Elements that are held."""
        return int(self.local.numel())

    def run_at(self, position: int, most: int) -> Run:
        """Return the run that begins at a position of the flattened box, within its row."""
        if not self.shape:
            return Run((), 0, 1)
        sizes = tuple(self.local.shape)
        index = []
        for size in reversed(sizes):
            position, inside = divmod(position, size)
            index.append(inside)
        index.reverse()
        *row, first = (a + b for a, b in zip(index, self.offsets, strict=True))
        return Run(tuple(row), first, min(first + most, self.offsets[-1] + sizes[-1]))

    def values(self, run: Run) -> torch.Tensor:
        """Return the numbers of a run, 1-d."""
        if not self.shape:
            return self.local.detach().reshape(1)
        *above, last = self.offsets
        row = tuple(index - offset for index, offset in zip(run.row, above, strict=True))
        place = (*row, slice(run.start - last, run.stop - last))
        return self.local.detach()[place]


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a flattened box of a tensor; the box is all of it, or its tensor-parallel part.

    Attributes:
        shape: elements per dimension of the whole tensor.
        offsets: where the box begins.
        sizes: elements per dimension of the box.
        start: where the range begins in the flattened box.
        local: its elements, 1-d.
    """

    shape: tuple[int, ...]
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    start: int
    local: torch.Tensor

    @property
    def numel(self) -> int:
        """Elements that are held."""
        return int(self.local.numel())

    def run_at(self, position: int, most: int) -> Run:
        """Return the run that begins at a position of the range, within its row."""
        if not self.shape:
            return Run((), 0, 1)
        number, first = divmod(self.start + position, self.sizes[-1])
        row = []
        for size, offset in zip(
            reversed(self.sizes[:-1]), reversed(self.offsets[:-1]), strict=True
        ):
            number, inside = divmod(number, size)
            row.append(inside + offset)
        stop = min(first + most, self.sizes[-1], first + self.numel - position)
        last = self.offsets[-1]
        return Run(tuple(reversed(row)), first + last, stop + last)

    def values(self, run: Run) -> torch.Tensor:
        """Return the numbers of a run, 1-d."""
        if not self.shape:
            return self.local.detach().reshape(1)
        begin = 0
        for index, offset, size in zip(
            (*run.row, run.start), self.offsets, self.sizes, strict=True
        ):
            begin = begin * size + index - offset
        return self.local.detach()[begin - self.start : begin - self.start + run.stop - run.start]


Piece = Box | Span


def boxes(tensor: torch.Tensor) -> Iterator[Box]:
    """Return the boxes that this rank holds of a tensor of any kind."""
    shape = spec_of(tensor).shape or ()
    if isinstance(tensor, ShardedTensor):
        locals_ = [shard.tensor for shard in tensor.local_shards()]
    elif (mesh := getattr(tensor, "device_mesh", None)) is not None:
        locals_ = [] if mesh.get_coordinate() is None else [tensor.to_local()]
    else:
        locals_ = [tensor]
    chunks = _create_chunk_list(tensor) if locals_ else []
    for chunk, local in zip(chunks, locals_, strict=False):
        # Shards that interleave are no box.
        if local.numel() and tuple(chunk.sizes) == tuple(local.shape):
            yield Box(shape, tuple(chunk.offsets), local)


def positions(numel: int, count: int, seed: str) -> list[int]:
    """Return up to `count` positions below `numel`, spread over all; the same for the same seed."""
    if not numel:
        return []
    # A checksum and not `random`, whose state is the training job's.
    part = max(1, numel // count)
    shift = zlib.crc32(seed.encode()) % part
    return sorted({min(numel - 1, slot * part + shift) for slot in range(count)})
