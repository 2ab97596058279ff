"""The boxes that a placement cuts a tensor into: what DTensor computes, for all ranks at once.

The oracle is torch/distributed/tensor/_utils.py, `_compute_local_shape_and_global_offset`. It
differs in one respect: where FSDP cuts a dimension unevenly after tensor parallelism, torch's
strided shards may name rows that a rank does not hold; here they are those that it holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dcpctl.errors import Refused
from dcpctl.formats.records import Int64s
from dcpctl.surgery.layouts.placements import Mesh, Placements, Shard


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """The different boxes of a tensor on a mesh, in the order of the first rank that has each.

    Attributes:
        offsets: (n, d) first element of each box.
        sizes: (n, d) elements of each box; empty ones are among them, as DCP saves them.
        holders: for each box the ranks that hold it, ascending.
    """

    offsets: Int64s
    sizes: Int64s
    holders: tuple[Int64s, ...]


def cut(shape: Sequence[int], mesh: Mesh, placements: Placements) -> Boxes:
    """Cut a tensor.

    Each axis cuts as torch.chunk does: pieces of equal size, rounded up, until nothing is left;
    the offset of an empty piece is the end of the dimension. Boxes of the same offsets are one:
    DCP writes replicated ones once.

    Args:
        shape: of the tensor.
        mesh: axis to size.
        placements: one an axis.

    Raises:
        Refused: a placement names a dimension that the tensor does not have, or a strided shard
            fits no axes to its right.
    """
    axes = list(mesh.values())
    ranks = math.prod(axes)
    where = np.stack(np.unravel_index(np.arange(ranks), axes), axis=1) if axes else None
    offsets = np.zeros((ranks, len(shape)), dtype=np.int64)
    sizes = np.tile(np.array(shape, dtype=np.int64), (ranks, 1))
    for dim in sorted({p.dim for p in placements if isinstance(p, Shard)}):
        if dim >= len(shape):
            raise Refused(
                f"{_text(placements)} cuts dimension {dim} of a tensor of shape {list(shape)}"
            )
        assert where is not None
        for axis in _order(axes, placements, dim):
            piece = -(-sizes[:, dim] // axes[axis])
            low = np.minimum(piece * where[:, axis], sizes[:, dim])
            offsets[:, dim] += low
            sizes[:, dim] = np.minimum(piece, sizes[:, dim] - low)
        offsets[sizes[:, dim] == 0, dim] = shape[dim]
    return _different(offsets, sizes)


def _order(axes: Sequence[int], placements: Placements, dim: int) -> list[int]:
    """The axes that cut a dimension, in the order in which they do."""
    order: list[int] = []
    for axis in reversed(range(len(axes))):
        placement = placements[axis]
        if not isinstance(placement, Shard) or placement.dim != dim:
            continue
        ahead = next(
            (
                count
                for count in range(len(order) + 1)
                if math.prod(axes[a] for a in order[:count]) == placement.split_factor
            ),
            None,
        )
        if ahead is None:
            raise Refused(
                f"{_text(placements)}: no axes to the right cut dimension {dim} into "
                f"{placement.split_factor}"
            )
        order.insert(ahead, axis)
    return order


def _different(offsets: Int64s, sizes: Int64s) -> Boxes:
    if not offsets.shape[1]:
        return Boxes(offsets[:1], sizes[:1], (np.arange(len(offsets)),))
    _, first, of_rank = np.unique(offsets, axis=0, return_index=True, return_inverse=True)
    by_rank = np.argsort(first, kind="stable")
    of_rank = of_rank.reshape(-1)
    holders = tuple(np.flatnonzero(of_rank == box) for box in by_rank.tolist())
    rows = first[by_rank]
    return Boxes(offsets[rows], sizes[rows], holders)


def _text(placements: Placements) -> str:
    return f"[{', '.join(map(str, placements))}]"
