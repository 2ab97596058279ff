"""How tensors lie on a mesh: placements, as DTensor has them, and which tensor gets which.

A mesh is an ordered map from axis to size, `{"fsdp": 4, "tp": 2}`; ranks count through it with the
last axis fastest, as `init_device_mesh` lays them out. A tensor has one placement an axis.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpctl import limits
from dcpctl.documents.fields import Document
from dcpctl.documents.files import Kind, read_bytes
from dcpctl.documents.parsing import parse_json
from dcpctl.errors import InputError, UsageError, quote

_FILE = Kind("map of placements", UsageError, limits.PLACEMENTS_BYTES)
_SHARD = re.compile(r"(?i)(?:s|shard)\(\s*(?:dim\s*=\s*)?(\d+)\s*\)")
_STRIDED = re.compile(
    r"(?i)_?(?:s|stridedshard)\(\s*(?:dim\s*=\s*)?(\d+)\s*,\s*(?:(?:sf|split_factor)\s*=\s*)?(\d+)\s*\)"
)
_REPLICATE = re.compile(r"(?i)(?:r|replicate)(?:\(\s*\))?")

# What people call the axes: torchtitan, torch's tutorials, Lightning, accelerate.
_REPLICATED_AXIS = re.compile(r"(?i).*rep.*|ddp")
_TENSOR_AXIS = re.compile(r"(?i).*tp.*|.*tensor.*|model")
# Linear layers whose input is split (RowwiseParallel), in Llama's, Hugging Face's and GPT's names;
# every other matrix is split by rows of its weight (ColwiseParallel, vocabulary).
_ROWWISE = re.compile(
    r"(?:.*\.)?(?:wo|w2|o_proj|down_proj|out_proj|dense_4h_to_h|fc2|linear_fc2|linear_proj)\.weight"
)


@dataclass(frozen=True, slots=True)
class Shard:
    """The mesh axis cuts a tensor dimension.

    Attributes:
        dim: the dimension.
        split_factor: pieces into which later axes have cut it before (DTensor's _StridedShard, as
            FSDP2 makes it of tensor-parallel parameters); 1 where this axis cuts first.
    """

    dim: int
    split_factor: int = 1

    def __str__(self) -> str:
        return (
            f"S({self.dim})" if self.split_factor == 1 else f"_S({self.dim}, {self.split_factor})"
        )


@dataclass(frozen=True, slots=True)
class Replicate:
    """Every rank along the mesh axis holds the same."""

    def __str__(self) -> str:
        return "R"


Placement = Shard | Replicate
Placements = tuple[Placement, ...]
Mesh = Mapping[str, int]


def parse_placement(text: object) -> Placement:
    """Read one placement.

    Args:
        text: `S(0)`, `R`, `_S(0, 2)` as DTensor prints them, the long names `Shard(0)` and
            `Replicate()`, a bare dimension, or None for replicated.

    Raises:
        UsageError: it is none of these.
    """
    if text is None:
        return Replicate()
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return Shard(text)
    if isinstance(text, str):
        if found := _SHARD.fullmatch(text.strip()):
            return Shard(int(found[1]))
        if (found := _STRIDED.fullmatch(text.strip())) and int(found[2]) > 0:
            return Shard(int(found[1]), int(found[2]))
        if _REPLICATE.fullmatch(text.strip()):
            return Replicate()
    raise UsageError(
        f"{quote(text)} is no placement",
        hint="placements are S(0), S(1), ..., R, or _S(0, 2) for a strided shard",
    )


def parse_placements(value: object, mesh: Mesh, usual: Placements) -> Placements:
    """Read the placements of a tensor on all axes of a mesh.

    Args:
        value: a list with one placement an axis, meant literally as DTensor has it (two shards of
            one dimension cut from left to right); or a map from axis to placement, in which axes
            that are not named keep the usual one and FSDP cuts last, as FSDP2 does.
        mesh: the mesh.
        usual: the tensor's placements without this.

    Raises:
        UsageError: another number of placements than axes, or an axis that the mesh does not have.
    """
    if isinstance(value, Mapping):
        unknown = [str(axis) for axis in value if axis not in mesh]
        if unknown:
            raise UsageError(
                f"the mesh has no axis {quote(unknown[0])}", hint=f"its axes: {', '.join(mesh)}"
            )
        chosen = [
            parse_placement(value[axis]) if axis in value else _plain(placement)
            for axis, placement in zip(mesh, usual, strict=True)
        ]
        return as_fsdp_cuts(mesh, chosen)
    listed = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if len(listed) != len(mesh):
        raise UsageError(
            f"{len(listed)} placements for {len(mesh)} mesh axes",
            hint=f"give one for each of {', '.join(mesh)}",
        )
    return tuple(parse_placement(item) for item in listed)


def usual_placements(name: str, ndim: int, mesh: Mesh) -> Placements:
    """The placements that a parameter has where nobody says otherwise.

    Axes called like replication (`replicate`, `dp_replicate`, `ddp`) replicate; a tensor-parallel
    axis (`tp`) cuts matrices as the usual plans for language models do, output projections by
    columns and others by rows; every other axis cuts dimension 0, as `fully_shard` does.

    Args:
        name: the parameter's name, for the tensor-parallel axis.
        ndim: its dimensions, at least 1.
        mesh: the mesh.
    """
    chosen: list[Placement] = []
    for axis in mesh:
        if _REPLICATED_AXIS.fullmatch(axis):
            chosen.append(Replicate())
        elif not _TENSOR_AXIS.fullmatch(axis):
            chosen.append(Shard(0))
        elif ndim < 2:
            chosen.append(Replicate())
        else:
            chosen.append(Shard(1 if _ROWWISE.fullmatch(name) else 0))
    return as_fsdp_cuts(mesh, chosen)


def as_fsdp_cuts(mesh: Mesh, placements: Sequence[Placement]) -> Placements:
    """Make an axis of FSDP cut a dimension after the tensor-parallel axes to its right.

    `fully_shard` meets parameters that are cut already (torch/distributed/fsdp/_fully_shard/
    _fsdp_param.py, `_init_sharding_spec_tp`), so its placement is strided by their number.
    """
    names, sizes = list(mesh), list(mesh.values())
    made: list[Placement] = []
    for number, placement in enumerate(placements):
        if isinstance(placement, Shard) and placement.split_factor == 1:
            factor = 1
            for later in range(number + 1, len(names)):
                other = placements[later]
                tensor_axis = _TENSOR_AXIS.fullmatch(names[later]) is not None
                if isinstance(other, Shard) and other.dim == placement.dim and tensor_axis:
                    factor *= sizes[later]
            if _TENSOR_AXIS.fullmatch(names[number]) is None:
                placement = Shard(placement.dim, factor)
        made.append(placement)
    return tuple(made)


def _plain(placement: Placement) -> Placement:
    return Shard(placement.dim) if isinstance(placement, Shard) else placement


def read_placements(path: Path) -> dict[str, Any]:
    """Read a file that maps globs over keys to placements: TOML, or JSON if it is called so.

    Globs are compared with FQNs and with parameters' names; a parameter's optimizer state follows
    it. Of several that match, the first counts.

    Raises:
        UsageError: the file is not such a map.
        ReadFailed: it cannot be read.
    """
    try:
        if path.suffix == ".json":
            found = parse_json(read_bytes(path, _FILE), quote(path))
        else:
            found = Document.of_toml(path, _FILE).found
    except InputError as error:
        raise UsageError(f"{quote(path)} cannot be parsed: {error.message}") from None
    if not found:
        raise UsageError(
            f"{quote(path)} holds no map from globs to placements",
            hint='such as "*.wo.weight" = ["S(0)", "S(1)"]',
        )
    if len(found) > limits.GLOBS:
        raise UsageError(
            f"{quote(path)} has {len(found):,} globs, more than {limits.GLOBS:,}",
            hint="the first glob that matches counts; * stands for many keys",
        )
    return found
