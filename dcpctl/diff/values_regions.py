"""Boxes of a tensor, each inside one chunk of either checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dcpctl.errors import MalformedMetadata, quote
from dcpctl.formats import dtypes
from dcpctl.formats.records import Int64s
from dcpctl.model import boxes
from dcpctl.model.entry import TensorEntry

Point = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A box that lies in one chunk of A and in one of B.

    Attributes:
        row: number of the chunk of A; -1 where the box is read across chunks.
        other: number of the chunk of B, likewise.
        low: first element, in the tensor's indices.
        high: past the last one.
    """

    row: int
    other: int
    low: Point
    high: Point

    @property
    def numel(self) -> int:
        """Elements."""
        return math.prod(b - a for a, b in zip(self.low, self.high, strict=True))


def check_form(entry: TensorEntry) -> None:
    """See that an entry can be compared at all.

    Raises:
        UnknownForm: its dtype is unknown.
        MalformedMetadata: it has a negative size, or chunks of other dimensions.
        MissingFile: no storage item holds its first chunk.
    """
    dtypes.info(entry.dtype)
    if min(entry.shape, default=0) < 0:
        raise MalformedMetadata(f"{quote(entry.fqn)} has the shape {list(entry.shape)}")
    if len(entry.chunks):
        entry.chunk_source(0)


def distinct_rows(entry: TensorEntry) -> Int64s:
    """The chunks that hold elements, copies left out, in a settled order (by offsets, sizes)."""
    chunks = entry.chunks
    rows: Int64s = np.flatnonzero((chunks.sizes > 0).all(axis=1))
    if len(rows) < 2 or not entry.shape:
        return rows[:1]
    places = np.hstack([chunks.offsets, chunks.sizes])
    order = rows[np.lexsort(places[rows].T[::-1])]
    new = (places[order][1:] != places[order][:-1]).any(axis=1)
    kept: Int64s = order[np.concatenate([[True], new])]
    return kept


def same_layout(a: TensorEntry, b: TensorEntry) -> tuple[Int64s, Int64s] | None:
    """Pair the chunks of two tensors; None if they are not the same boxes."""
    rows, others = distinct_rows(a), distinct_rows(b)
    if rows.shape != others.shape:
        return None
    for name in ("offsets", "sizes"):
        one, two = getattr(a.chunks, name)[rows], getattr(b.chunks, name)[others]
        if one.shape != two.shape or (one != two).any():
            return None
    return rows, others


def regions(a: TensorEntry, b: TensorEntry) -> list[Region]:
    """Cut the tensor into boxes that lie in one chunk on either side.

    Where the chunks of one side leave holes or overlap, which `check` reports, there is one region
    with the whole tensor: reading it names the hole.
    """
    if not a.numel:
        return []
    pairs = same_layout(a, b)
    # In one order whichever side is A, so that sums come out the same to the last bit.
    found = sorted(
        _paired(a, *pairs) if pairs is not None else _crossed(a, b), key=lambda region: region.low
    )
    if sum(region.numel for region in found) != a.numel:
        return [Region(-1, -1, (0,) * len(a.shape), a.shape)]
    return found


def split(region: Region, most: int) -> Iterator[Region]:
    """Cut a region into pieces of at most `most` elements, row by row."""
    if region.numel <= most:
        yield region
        return
    sizes = tuple(b - a for a, b in zip(region.low, region.high, strict=True))
    for starts, stops in boxes.split(sizes, most):
        low = tuple(a + b for a, b in zip(region.low, starts, strict=True))
        high = tuple(a + b for a, b in zip(region.low, stops, strict=True))
        yield Region(region.row, region.other, low, high)


def _paired(a: TensorEntry, rows: Int64s, others: Int64s) -> Iterator[Region]:
    for row, other in zip(rows.tolist(), others.tolist(), strict=True):
        chunk = a.chunks[row]
        high = tuple(o + n for o, n in zip(chunk.offsets, chunk.sizes, strict=True))
        yield Region(row, other, chunk.offsets, high)


def _crossed(a: TensorEntry, b: TensorEntry) -> Iterator[Region]:
    others = distinct_rows(b)
    starts = b.chunks.offsets[others]
    stops = starts + b.chunks.sizes[others]
    for row in distinct_rows(a).tolist():
        first = a.chunks.offsets[row]
        low = np.maximum(starts, first)
        high = np.minimum(stops, first + a.chunks.sizes[row])
        touching = np.flatnonzero((low < high).all(axis=1))
        for number in touching.tolist():
            yield Region(
                row, int(others[number]), tuple(low[number].tolist()), tuple(high[number].tolist())
            )
