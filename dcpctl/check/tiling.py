"""Whether the chunks of a tensor tile it: vectorised over all chunks, whatever their layout.

The boundaries of all chunks cut the tensor into a grid of cells; each cell is held by no chunk (a
hole), by one, or by several (an overlap). Dimensions that every chunk spans do not count, so that
the grid of an FSDP tensor is one row of as many cells as there are ranks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dcpctl.formats.arrays import distinct
from dcpctl.formats.records import ChunkTable, Int64s

Box = tuple[tuple[int, ...], tuple[int, ...]]

#: Most cells of one grid; beyond it the tensor is cut into slabs first.
_GRID_CELLS = 1 << 20
#: Most cells of all grids of one tensor. Chunks that need more are no layout of any framework.
_ALL_CELLS = 1 << 26
#: Most holes that are told as boxes.
_MOST_BOXES = 3
_INT64_SAFE = 1 << 62


class TooIrregular(Exception):
    """The chunks lie so irregularly that their coverage is not worked out."""


@dataclass(slots=True)
class Tiling:
    """How a tensor's chunks lie.

    Attributes:
        numel: elements of the tensor.
        covered: elements that at least one chunk holds.
        doubled: elements that several different chunks hold.
        holes: some boxes that no chunk holds, first element and past-the-end element.
        overlap: two rows of the chunk table that share elements, and the box that they share.
        outside: rows of chunks that reach out of the tensor.
        repeated: rows of chunks that an earlier row repeats.
        irregular: `covered`, `doubled`, `holes` and `overlap` are not known.
    """

    numel: int
    covered: int = 0
    doubled: int = 0
    holes: list[Box] = field(default_factory=list)
    overlap: tuple[int, int, Box] | None = None
    outside: Int64s = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    repeated: Int64s = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    irregular: bool = False

    @property
    def sound(self) -> bool:
        """Whether every element is held once and by a chunk inside the tensor."""
        whole = self.covered == self.numel and not self.doubled
        return whole and not self.irregular and not len(self.outside) and not len(self.repeated)


def tile(shape: tuple[int, ...], chunks: ChunkTable) -> Tiling:
    """Work out how chunks of as many dimensions as `shape` tile it."""
    tiling = Tiling(math.prod(shape))
    if not len(chunks):
        tiling.holes = [] if 0 in shape else [((0,) * len(shape), shape)]
        return tiling
    dims = np.array(shape, dtype=np.int64)
    starts, stops, inside = _clip(dims, chunks.offsets, chunks.sizes)
    tiling.outside = np.flatnonzero(~inside)
    full = np.flatnonzero((stops > starts).all(axis=1))
    first = _first_of_each(chunks.offsets[full], chunks.sizes[full])
    tiling.repeated = np.delete(full, first)
    rows = full[first]
    try:
        _cover(tiling, dims, starts[rows], stops[rows], rows)
    except TooIrregular:
        tiling.irregular = True
    return tiling


def _clip(dims: Int64s, offsets: Int64s, sizes: Int64s) -> tuple[Int64s, Int64s, NDArray[np.bool_]]:
    """First and past-the-end elements inside the tensor, and which chunks lie inside it wholly."""
    starts = np.clip(offsets, 0, dims)
    # Neither sum can overflow: a negative offset has the opposite sign of the size.
    room = np.minimum(sizes, dims - starts)
    stops = np.where(offsets < 0, np.minimum(offsets + np.maximum(sizes, 0), dims), starts + room)
    inside = (offsets >= 0) & (sizes >= 0) & (offsets <= dims) & (sizes <= dims - starts)
    whole: NDArray[np.bool_] = np.asarray(inside.all(axis=1))
    return starts, np.maximum(stops, starts), whole


def _first_of_each(offsets: Int64s, sizes: Int64s) -> Int64s:
    """Indices, ascending, of the first of each set of equal rows."""
    both = np.concatenate([offsets, sizes], axis=1)
    if len(both) < 2 or not both.shape[1]:
        return np.arange(min(len(both), 1))
    order = np.lexsort(both.T[::-1])
    table = both[order]
    new = np.ones(len(both), dtype=bool)
    new[1:] = (table[1:] != table[:-1]).any(axis=1)
    # lexsort is stable, so that the first of each run is the first row.
    first: Int64s = np.sort(order[new])
    return first


def _cover(tiling: Tiling, dims: Int64s, starts: Int64s, stops: Int64s, rows: Int64s) -> None:
    if not tiling.numel:
        return
    split = np.flatnonzero(((starts > 0) | (stops < dims)).any(axis=0))
    whole = np.ones(len(dims), dtype=bool)
    whole[split] = False
    beside = math.prod(dims[whole].tolist())
    covered = doubled = 0
    for bounds, counts in _grids(dims[split], starts[:, split], stops[:, split]):
        covered += _volume(counts > 0, bounds, tiling.numel)
        twice = counts > 1
        if twice.any():
            doubled += _volume(twice, bounds, tiling.numel)
            if tiling.overlap is None:
                tiling.overlap = _pair(twice, bounds, split, starts, stops, rows)
        missing = np.asarray(counts == 0)  # a scalar where no dimension is split
        while len(tiling.holes) < _MOST_BOXES and missing.any():
            tiling.holes.append(_take_box(missing, bounds, split, dims))
    tiling.covered, tiling.doubled = covered * beside, doubled * beside


def _grids(
    dims: Int64s, starts: Int64s, stops: Int64s
) -> Iterator[tuple[list[Int64s], NDArray[np.int32]]]:
    """Yield grids that make up the tensor: cell boundaries per dimension, and chunks per cell."""
    budget = [_ALL_CELLS]

    def cut(fixed: list[Int64s], axis: int, rows: Int64s) -> Iterator[tuple[list[Int64s], Int64s]]:
        free = [
            _boundaries(dims[d], starts[rows, d], stops[rows, d]) for d in range(axis, len(dims))
        ]
        cells = math.prod(len(bound) - 1 for bound in free)
        if cells <= _GRID_CELLS:
            budget[0] -= cells + len(rows)
            if budget[0] < 0:
                raise TooIrregular
            yield [*fixed, *free], rows
            return
        for low, high in itertools.pairwise(free[0].tolist()):
            here = rows[(starts[rows, axis] < high) & (stops[rows, axis] > low)]
            budget[0] -= len(rows)
            yield from cut([*fixed, np.array([low, high])], axis + 1, here)

    for bounds, rows in cut([], 0, np.arange(len(starts))):
        low = np.array([bound[0] for bound in bounds], dtype=np.int64)
        high = np.array([bound[-1] for bound in bounds], dtype=np.int64)
        yield bounds, _counts(bounds, np.maximum(starts[rows], low), np.minimum(stops[rows], high))


def _boundaries(size: int, starts: Int64s, stops: Int64s) -> Int64s:
    return distinct(np.concatenate([np.array([0, size], dtype=np.int64), starts, stops]))


def _counts(bounds: list[Int64s], starts: Int64s, stops: Int64s) -> NDArray[np.int32]:
    """Chunks per cell: each adds one from its first corner on and takes it back behind its last."""
    shape = tuple(len(bound) for bound in bounds)
    if not shape:
        return np.array(len(starts), dtype=np.int32)
    corners = [
        (np.searchsorted(bound, starts[:, d]), np.searchsorted(bound, stops[:, d]))
        for d, bound in enumerate(bounds)
    ]
    if len(shape) > 8:  # so many corners cost more than the cells themselves
        whole = np.zeros(shape, dtype=np.int32)
        for row in range(len(starts)):
            whole[tuple(slice(low[row], high[row]) for low, high in corners)] += 1
    else:
        change = np.zeros(math.prod(shape), dtype=np.int64)
        for sides in itertools.product((0, 1), repeat=len(shape)):
            place = tuple(corner[side] for corner, side in zip(corners, sides, strict=True))
            sign = -1 if sum(sides) % 2 else 1
            flat = np.ravel_multi_index(place, shape)
            change += sign * np.bincount(flat, minlength=change.size)
        whole = change.reshape(shape).astype(np.int32)
        for axis in range(len(shape)):
            np.cumsum(whole, axis=axis, out=whole)
    return whole[tuple(slice(0, -1) for _ in shape)]


def _volume(cells: NDArray[np.bool_], bounds: list[Int64s], numel: int) -> int:
    """Elements in the marked cells."""
    exact = np.int64 if numel < _INT64_SAFE else object
    total = cells.astype(exact)
    for bound in reversed(bounds):
        total = total @ np.diff(bound).astype(exact)
    return int(total)


def _take_box(missing: NDArray[np.bool_], bounds: list[Int64s], split: Int64s, dims: Int64s) -> Box:
    """Unmark the largest box of marked cells that grows from the first, last dimension first."""
    low = [int(index) for index in np.unravel_index(int(missing.argmax()), missing.shape)]
    high = [index + 1 for index in low]
    for axis in reversed(range(missing.ndim)):
        while high[axis] < missing.shape[axis]:
            beyond = [slice(a, b) for a, b in zip(low, high, strict=True)]
            beyond[axis] = slice(high[axis], high[axis] + 1)
            if not missing[tuple(beyond)].all():
                break
            high[axis] += 1
    missing[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = False
    first, last = [0] * len(dims), dims.tolist()
    for dim, bound, a, b in zip(split.tolist(), bounds, low, high, strict=True):
        first[dim], last[dim] = int(bound[a]), int(bound[b])
    return tuple(first), tuple(last)


def _pair(
    twice: NDArray[np.bool_],
    bounds: list[Int64s],
    split: Int64s,
    starts: Int64s,
    stops: Int64s,
    rows: Int64s,
) -> tuple[int, int, Box]:
    """Two chunks that hold the first marked cell."""
    cell = np.unravel_index(int(twice.argmax()), twice.shape)
    point = np.array([bound[index] for bound, index in zip(bounds, cell, strict=True)], np.int64)
    held = (starts[:, split] <= point) & (stops[:, split] > point)
    a, b = np.flatnonzero(held.all(axis=1))[:2].tolist()
    low, high = np.maximum(starts[a], starts[b]), np.minimum(stops[a], stops[b])
    return int(rows[a]), int(rows[b]), (tuple(low.tolist()), tuple(high.tolist()))
