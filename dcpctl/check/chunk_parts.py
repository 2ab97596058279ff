"""Which chunks of many tensors a sample reads, which part of each, and the same part elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dcpctl.formats.arrays import distinct
from dcpctl.model.entry import TensorEntry

Point = tuple[int, ...]
T = TypeVar("T")
_GOLDEN = 0.6180339887498949


def distinct_rows(entry: TensorEntry) -> Iterator[int]:
    """Rows of the chunks that hold numbers; of copies the first one."""
    seen = set()
    for row, chunk in enumerate(entry.chunks):
        box = chunk.offsets, chunk.sizes
        if box not in seen and 0 not in chunk.sizes:
            seen.add(box)
            yield row


def spread(chunks: Sequence[tuple[T, int]], files: Sequence[int], most: int) -> list[tuple[T, int]]:
    """Choose at most so many chunks: as many of each file as of the others, spread over the rest.

    Args:
        chunks: whose they are, and their rows.
        files: (n,) number of the file that holds each.
        most: to choose.
    """
    if len(chunks) <= most:
        return list(chunks)
    members: dict[int, list[int]] = {}
    for number, file in enumerate(files):
        members.setdefault(file, []).append(number)
    if len(members) > most:
        picked = _evenly(list(members), most)
        return [chunks[members[file][i % len(members[file])]] for i, file in enumerate(picked)]
    share = most // len(members)
    chosen = sorted(n for numbers in members.values() for n in _evenly(numbers, share))
    return [chunks[number] for number in chosen]


def _evenly(numbers: list[int], most: int) -> list[int]:
    if len(numbers) <= most:
        return numbers
    picked = distinct(np.linspace(0, len(numbers) - 1, most).astype(int))
    return [numbers[index] for index in picked.tolist()]


def part_of(sizes: Point, number: int, most: int) -> tuple[Point, Point]:
    """The box of a chunk that a sample reads: of at most so many numbers, whose rows lie together.

    It is elsewhere in the chunk for each `number`.
    """
    starts, stops = [0] * len(sizes), list(sizes)
    at = number * _GOLDEN % 1.0
    for dim, size in enumerate(sizes):
        behind = math.prod(sizes[dim + 1 :])
        take = max(1, min(size, most // behind))
        starts[dim] = int((size - take) * at)
        stops[dim] = starts[dim] + take
        if behind <= most:
            break
    return tuple(starts), tuple(stops)


def read_same(
    entry: TensorEntry, like: TensorEntry, row: int, starts: Point, stops: Point
) -> NDArray[Any]:
    """Read the numbers of a tensor that lie where a box of another one's chunk does.

    Args:
        entry: to read; of the shape of `like`, in whatever layout.
        like: whose chunk it is.
        row: of the chunk.
        starts: first element of the box, counted in the chunk.
        stops: past-the-end element.

    Raises:
        As `TensorEntry.read_chunk`.
    """
    mine, theirs = entry.chunks, like.chunks
    offsets = theirs.offsets[row]
    alike = (
        row < len(mine)
        and np.array_equal(mine.offsets[row], offsets)
        and np.array_equal(mine.sizes[row], theirs.sizes[row])
    )
    if alike:
        return entry.read_chunk(row, starts, stops)
    box = tuple(
        slice(o + a, o + b) for o, a, b in zip(offsets.tolist(), starts, stops, strict=True)
    )
    found: NDArray[Any] = entry[box]
    return found
