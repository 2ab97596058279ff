"""Boxes of elements: what an index means, which chunks it touches, how a chunk is split."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dcpctl.formats.records import ChunkTable, Int64s

Point = tuple[int, ...]
#: Most boxes that are compared in pairs; beyond, elements are ticked off.
_MOST_PAIRED = 4096


def resolve(key: Any, shape: Sequence[int]) -> tuple[Point, Point, tuple[Any, ...]]:
    """Turn an index expression into the box to read and the view to take of it.

    Args:
        key: ints, slices and at most one `...`, as NumPy takes them.
        shape: of the tensor.

    Returns:
        First element and past-the-end element per dimension, and the index that, applied to the
        box, gives what NumPy would give: ints drop their dimension, steps are taken.

    Raises:
        IndexError: too many indices, or an int out of bounds.
        TypeError: an index that is neither int, slice nor `...`.
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    dots = [number for number, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1 or len(parts) - len(dots) > len(shape):
        raise IndexError(f"too many indices for {len(shape)} dimensions")
    fill = [slice(None)] * (len(shape) - len(parts) + len(dots))
    parts = parts[: dots[0]] + fill + parts[dots[0] + 1 :] if dots else parts + fill
    starts: list[int] = []
    stops: list[int] = []
    view: list[slice | int] = []
    for part, size in zip(parts, shape, strict=True):
        if isinstance(part, slice):
            chosen = range(size)[part]
            low, high = (
                (min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1]) + 1) if chosen else (0, 0)
            )
            starts.append(low)
            stops.append(high)
            view.append(slice(None, None, chosen.step))
        else:
            try:
                index = operator.index(part)
            except TypeError:
                raise TypeError(f"cannot index a tensor entry with {type(part).__name__}") from None
            if not -size <= index < size:
                raise IndexError(f"index {index} is out of bounds for {size} elements")
            starts.append(index % size)
            stops.append(index % size + 1)
            view.append(0)
    return tuple(starts), tuple(stops), tuple(view)


def overlapping(chunks: ChunkTable, starts: Point, stops: Point) -> Int64s:
    """Row numbers of the chunks that share an element with [starts, stops)."""
    ends = chunks.offsets + chunks.sizes
    touch = (chunks.offsets < np.array(stops)) & (ends > np.array(starts)) & (chunks.sizes > 0)
    return np.flatnonzero(touch.all(axis=1))


def intersect(offsets: Point, sizes: Point, starts: Point, stops: Point) -> tuple[Point, Point]:
    """The part of a chunk inside [starts, stops), in the tensor's indices."""
    low = tuple(max(o, s) for o, s in zip(offsets, starts, strict=True))
    high = tuple(min(o + n, e) for o, n, e in zip(offsets, sizes, stops, strict=True))
    return low, high


def cover(shape: Point, places: Sequence[tuple[slice, ...]]) -> bool:
    """Whether boxes inside an array of this shape hold each of its elements."""
    wanted = math.prod(shape)
    if sum(math.prod(part.stop - part.start for part in place) for place in places) < wanted:
        return False
    if len(places) <= _MOST_PAIRED and _disjoint(places):
        return True
    held = np.zeros(shape, dtype=bool)
    for place in places:
        held[place] = True
    return bool(held.all())


def _disjoint(places: Sequence[tuple[slice, ...]]) -> bool:
    count = len(places)
    low = np.array([[part.start for part in place] for place in places]).reshape(count, -1)
    high = np.array([[part.stop for part in place] for place in places]).reshape(count, -1)
    return not any(
        ((low[n + 1 :] < high[n]) & (high[n + 1 :] > low[n])).all(axis=1).any()
        for n in range(count - 1)
    )


def split(sizes: Point, most: int) -> Iterator[tuple[Point, Point]]:
    """Split a box into row-major pieces of at most `most` elements (at least one each)."""
    if math.prod(sizes) <= most or not sizes:
        yield (0,) * len(sizes), tuple(sizes)
        return
    inner = math.prod(sizes[1:])
    if inner <= most:
        rows = max(1, most // inner)
        for first in range(0, sizes[0], rows):
            last = min(first + rows, sizes[0])
            yield (first, *([0] * (len(sizes) - 1))), (last, *sizes[1:])
        return
    for row in range(sizes[0]):
        for starts, stops in split(tuple(sizes[1:]), most):
            yield (row, *starts), (row + 1, *stops)


def text(starts: Sequence[int], stops: Sequence[int]) -> str:
    """A box as it is written in messages: `4:6, 0:4`."""
    return ", ".join(f"{a}:{b}" for a, b in zip(starts, stops, strict=True))
