"""The parameters of a model as a rank holds them, by name; nothing is gathered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from dcpctl.model.fqn import strip_wrappers
from dcpctl.training.pieces import Piece, Span, boxes

try:
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
except ImportError:  # before 2.5
    from torch.distributed._tensor._utils import compute_local_shape_and_global_offset

Place = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A parameter or buffer as this rank holds it.

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

        Empty where this rank holds none of it, or FSDP1 has it in another form than the parameter.
        """
        return tuple(boxes(state)) if self.flat is None else self.flat.pieces(state)


@dataclass(frozen=True, slots=True)
class Flat:
    """Where FSDP1 keeps a parameter.

    Attributes:
        shape: elements per dimension of the whole parameter.
        offsets: where the part begins that is flattened: all of it, or its tensor-parallel part.
        sizes: elements per dimension of that part.
        start: first element of the flattened part that this rank holds.
        numel: elements that it holds.
        offset: where these begin in the rank's shard of the FlatParameter.
        shard: elements of that shard.
    """

    shape: Place
    offsets: Place
    sizes: Place
    start: int
    numel: int
    offset: int
    shard: int

    def pieces(self, values: torch.Tensor) -> tuple[Piece, ...]:
        """Return what is held of it in a shard of its own, or in that of the FlatParameter."""
        local = values.detach()
        local = (local.to_local() if hasattr(local, "to_local") else local).reshape(-1)
        if local.numel() == self.shard and self.numel != self.shard:
            local = local[self.offset : self.offset + self.numel]
        if local.numel() != self.numel or not self.numel:
            return ()
        return (Span(self.shape, self.offsets, self.sizes, self.start, local),)


def held(models: Iterable[nn.Module]) -> list[Held]:
    """Return the parameters and buffers of modules; a tied tensor comes once."""
    found: list[Held] = []
    for model in models:
        in_flat, known = _flat(model)
        found += in_flat
        for name, parameter in model.named_parameters():
            if id(parameter) not in known:
                found.append(Held(strip_wrappers(name), parameter, tuple(boxes(parameter))))
        for name, buffer in model.named_buffers():
            pieces = tuple(boxes(buffer))
            found.append(Held(strip_wrappers(name), buffer, pieces, buffer=True))
    return found


def _flat(model: nn.Module) -> tuple[list[Held], set[int]]:
    """What FSDP1 holds, and the ids of the parameters and FlatParameters that it accounts for.

    Source: torch/distributed/fsdp/_flat_param.py (`FlatParameter`), the same from 2.4 to 2.13.
    """
    found: list[Held] = []
    known: set[int] = set()
    for prefix, module in model.named_modules():
        handle = getattr(module, "_handle", None)
        if not isinstance(module, FullyShardedDataParallel) or handle is None:
            continue
        flat: Any = handle.flat_param
        known.add(id(flat))
        originals: Sequence[Any] = flat._params or [flat] * len(flat._fqns)
        shard = getattr(flat, "_local_shard", flat.data)  # made when the module first runs
        for fqn, size, extension, info, original in zip(
            flat._fqns,
            flat._shapes,
            flat._param_extensions,
            flat._shard_param_infos,
            originals,
            strict=True,
        ):
            known.add(id(original))
            name = strip_wrappers(f"{prefix}.{fqn}" if prefix else fqn)
            shape, offsets = _part(extension, tuple(size))
            place = Flat(
                shape,
                offsets,
                tuple(size),
                info.intra_param_start_idx or 0,
                info.numel_in_shard or 0,
                info.offset_in_shard or 0,
                shard.numel(),
            )
            mine = shard.detach().reshape(-1)[place.offset : place.offset + place.numel]
            found.append(Held(name, original, place.pieces(mine), place))
    return found, known


def _part(extension: Any, size: Place) -> tuple[Place, Place]:
    """Whole shape of a parameter, and where the part of it begins that FSDP1 has flattened.

    The extension is the `DTensorSpec` of a tensor-parallel parameter, and None for others.
    """
    if extension is None:
        return size, (0,) * len(size)
    shape = tuple(extension.shape)
    _, offsets = compute_local_shape_and_global_offset(shape, extension.mesh, extension.placements)
    return shape, tuple(offsets)
