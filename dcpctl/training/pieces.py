"""The part of each tensor that a rank holds, whatever the way to shard: by names and places.

FSDP2, tensor parallelism and their product hold boxes (`DTensor`), FSDP1 holds a range of the
flattened tensor, DDP and plain modules hold all of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.checkpoint.planner_helpers import _create_chunk_list
from torch.distributed.fsdp import FullyShardedDataParallel

from dcpctl.model.fqn import strip_wrappers
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
    """A range of a flattened tensor.

    Attributes:
        shape: elements per dimension of the whole tensor.
        start: where the range begins.
        local: its elements, 1-d.
    """

    shape: tuple[int, ...]
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
        width = self.shape[-1]
        row_number, first = divmod(self.start + position, width)
        row = []
        for size in reversed(self.shape[:-1]):
            row_number, inside = divmod(row_number, size)
            row.append(inside)
        stop = min(first + most, width, first + self.numel - position)
        return Run(tuple(reversed(row)), first, stop)

    def values(self, run: Run) -> torch.Tensor:
        """Return the numbers of a run, 1-d."""
        if not self.shape:
            return self.local.detach().reshape(1)
        begin = 0
        for index, size in zip((*run.row, run.start), self.shape, strict=True):
            begin = begin * size + index
        return self.local.detach()[begin - self.start : begin - self.start + run.stop - run.start]


Piece = Box | Span


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A parameter as this rank holds it.

    Attributes:
        name: without wrapper names.
        tensor: what the optimizer knows it as; for FSDP1 without `use_orig_params` that is a
            FlatParameter, which several have in common.
        pieces: what is held of it; none on a rank without a shard.
        flat: for FSDP1, where it lies in its flattened form, and in the FlatParameter's shard.
        buffer: it is no parameter.
    """

    name: str
    tensor: torch.Tensor
    pieces: tuple[Piece, ...]
    flat: Flat | None = None
    buffer: bool = False

    def of_state(self, state: torch.Tensor) -> tuple[Piece, ...]:
        """Return the pieces of a tensor of the optimizer's state of this parameter.

        Empty where this rank holds none of it, or where it has another form than the parameter.
        """
        if self.flat is None:
            same = spec_of(state).shape == spec_of(self.tensor).shape
            return tuple(boxes(state)) if same else ()
        return self.flat.pieces(state)


@dataclass(frozen=True, slots=True)
class Flat:
    """Where FSDP1 keeps a parameter.

    Attributes:
        shape: elements per dimension of the parameter.
        start: first element that this rank holds, of the flattened parameter.
        numel: elements that it holds.
        offset: where these begin in the rank's shard of the FlatParameter.
        shard: elements of that shard.
    """

    shape: tuple[int, ...]
    start: int
    numel: int
    offset: int
    shard: int

    def pieces(self, values: torch.Tensor) -> tuple[Piece, ...]:
        """Return what is held of it in its own shard, or in that of the whole FlatParameter."""
        local = values.detach().reshape(-1)
        if local.numel() == self.shard and self.numel != self.shard:
            local = local[self.offset : self.offset + self.numel]
        if local.numel() != self.numel or not self.numel:
            return ()
        return (Span(self.shape, self.start, local),)


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


def held(models: Iterable[nn.Module]) -> list[Held]:
    """Return the parameters and buffers of modules as this rank holds them, by name.

    Nothing is gathered. Names are without wrapper names; a tied tensor comes once.
    """
    found: list[Held] = []
    for model in models:
        in_flat, flat_parameters = _flat(model)
        found += in_flat
        for name, parameter in model.named_parameters():
            if id(parameter) not in flat_parameters:
                found.append(Held(strip_wrappers(name), parameter, tuple(boxes(parameter))))
        for name, buffer in model.named_buffers():
            pieces = tuple(boxes(buffer))
            found.append(Held(strip_wrappers(name), buffer, pieces, buffer=True))
    return found


def _flat(model: nn.Module) -> tuple[list[Held], set[int]]:
    """What FSDP1 holds, and the ids of the parameters and FlatParameters that it accounts for."""
    found: list[Held] = []
    known: set[int] = set()
    for prefix, module in model.named_modules():
        handle = getattr(module, "_handle", None)
        if not isinstance(module, FullyShardedDataParallel) or handle is None:
            continue
        flat: Any = handle.flat_param
        known.add(id(flat))
        originals: Sequence[Any] = flat._params or [flat] * len(flat._fqns)
        shard = getattr(flat, "_local_shard", flat.data)
        for fqn, shape, info, original in zip(
            flat._fqns, flat._shapes, flat._shard_param_infos, originals, strict=True
        ):
            known.add(id(original))
            name = strip_wrappers(f"{prefix}.{fqn}" if prefix else fqn)
            size = tuple(shape)
            place = Flat(size, 0, 0, 0, shard.numel())
            # With tensor parallelism below FSDP1 the shapes are local ones: not compared.
            if info.in_shard and getattr(handle, "_fsdp_extension", None) is None:
                place = Flat(
                    size,
                    info.intra_param_start_idx,
                    info.numel_in_shard,
                    info.offset_in_shard,
                    shard.numel(),
                )
            mine = shard.detach().reshape(-1)[place.offset : place.offset + place.numel]
            pieces = (Span(size, place.start, mine),) if place.numel else ()
            found.append(Held(name, original, pieces, place))
    return found, known


def positions(numel: int, count: int, seed: str) -> list[int]:
    """Return up to `count` positions below `numel`, spread over all; the same for the same seed."""
    if not numel:
        return []
    # A checksum and not `random`, whose state is the training job's.
    part = max(1, numel // count)
    shift = zlib.crc32(seed.encode()) % part
    return sorted({min(numel - 1, slot * part + shift) for slot in range(count)})
