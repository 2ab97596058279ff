"""A box of a tensor out of the source's chunks, as a stream of bytes in bounded memory.

Where the parts lie in the source as they are to lie in the result, they are read straight into the
buffer that is written, by ranges; else the box is put together block by block.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpctl.errors import MalformedItem, quote
from dcpctl.formats import dtypes
from dcpctl.formats.crc import combine, crc32
from dcpctl.formats.strided import row_major
from dcpctl.formats.tensor_read import read_box
from dcpctl.model import boxes
from dcpctl.model.entry import Point, TensorEntry
from dcpctl.writing.casting import cast
from dcpctl.writing.chunks import ChunkOpener, OpenChunk
from dcpctl.writing.copying import copy_range
from dcpctl.writing.ledger import Ledger
from dcpctl.writing.rows import Rows
from dcpctl.writing.segments import NewTensor
from dcpctl.writing.sink import Sink

#: Bytes of the source's numbers that are put together at a time.
BLOCK_BYTES = 1 << 20
#: Bytes of the source that are read at once to fill a block, what lies between included.
SPAN_BYTES = 9 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """What one chunk gives to the box, in the tensor's indices.

    Attributes:
        chunk: the chunk.
        origin: its first element.
        low: first element that the box takes.
        high: past the last one.
    """

    chunk: OpenChunk
    origin: Point
    low: Point
    high: Point

    @property
    def sizes(self) -> Point:
        """Elements per dimension."""
        return tuple(b - a for a, b in zip(self.low, self.high, strict=True))


class Gatherer:
    """Gathers boxes; its methods may be called from several threads.

    Args:
        opener: opens the chunks.
        ledger: is told what was read.
    """

    def __init__(self, opener: ChunkOpener, ledger: Ledger) -> None:
        self._opener = opener
        self._ledger = ledger
        self._rows = Rows()
        self._local = threading.local()

    def parts(self, entry: TensorEntry, starts: Point, sizes: Point) -> list[Part]:
        """The chunks that a box is made of, copies left out.

        Raises:
            MalformedItem: the chunks do not cover the box.
            As `ChunkOpener.open`.
        """
        stops = tuple(a + n for a, n in zip(starts, sizes, strict=True))
        wanted = math.prod(sizes)
        if not wanted:
            return []
        found: dict[tuple[Point, Point], Part] = {}
        covered = 0  # where chunks overlap it is too much, which `write` sees
        for row, chunk in self._rows.overlapping(entry, starts, stops):
            if (chunk.offsets, chunk.sizes) in found:
                continue
            low, high = boxes.intersect(chunk.offsets, chunk.sizes, starts, stops)
            part = Part(self._opener.open(entry, row, chunk), chunk.offsets, low, high)
            found[(chunk.offsets, chunk.sizes)] = part
            covered += math.prod(part.sizes)
        if covered < wanted:
            raise _torn(entry, "do not cover", starts, stops)
        return list(found.values())

    def expect(self, segment: NewTensor) -> None:
        """Have the checksums compared of all that a segment is made of, without reading it.

        Raises:
            As `parts`.
        """
        for entry, starts, stops in segment.source.boxes(segment.starts, _stops(segment)):
            self.parts(entry, starts, tuple(b - a for a, b in zip(starts, stops, strict=True)))

    def write(self, segment: NewTensor, sink: Sink) -> int:
        """Write the numbers of a segment and return their CRC-32.

        Raises:
            ChecksumMismatch: a record that was read in full does not have its checksum.
            As `parts` and `Sink.put`.
        """
        entry = segment.source.entry
        if entry is None:
            return self._made(segment, sink)
        return self._copied(segment, entry, sink)

    def _made(self, segment: NewTensor, sink: Sink) -> int:
        """Write what a source makes, block by block."""
        source = segment.source
        crc = 0
        for low, high in _blocks_of(segment, source.dtype or segment.dtype):
            block = source.read(low, high, segment.dtype, self._fetch)
            crc = _put(block, source.dtype or segment.dtype, segment.dtype, crc, sink)
        return crc

    def _fetch(self, entry: TensorEntry, starts: Point, stops: Point) -> NDArray[Any]:
        """Read a box of an entry, and note what was read of its records."""
        sizes = tuple(b - a for a, b in zip(starts, stops, strict=True))
        parts = self.parts(entry, starts, sizes)
        if _overlap(parts):
            raise _torn(entry, "overlap in", starts, stops)
        block = np.empty(sizes, dtypes.numpy_dtype(entry.dtype))
        for part in parts:
            self._fill(block, starts, stops, part)
        return block

    def _copied(self, segment: NewTensor, entry: TensorEntry, sink: Sink) -> int:
        """Write a box of one entry."""
        parts = self.parts(entry, segment.starts, segment.sizes)
        if segment.dtype == entry.dtype:
            runs = _runs(parts, segment, dtypes.itemsize(entry.dtype))
            if runs is not None:
                return self._stream(runs, sink)
        if _overlap(parts):
            raise _torn(entry, "overlap in", segment.starts, _stops(segment))
        return self._blocks(parts, segment, entry.dtype, sink)

    def _stream(self, runs: list[_Run], sink: Sink) -> int:
        total = 0
        for run in runs:
            chunk = run.part.chunk
            crc = copy_range(chunk.storage, chunk.file, run.source, run.length, sink)
            if chunk.record is not None:
                start = run.source - chunk.record.offset
                self._ledger.read(chunk.record, start, start + run.length, crc)
            total = combine(total, crc, run.length)
        return total

    def _blocks(self, parts: list[Part], segment: NewTensor, dtype: str, sink: Sink) -> int:
        kind = dtypes.numpy_dtype(dtype)
        crc = 0
        for low, high in _blocks_of(segment, dtype):
            sizes = tuple(b - a for a, b in zip(low, high, strict=True))
            block = self._scratch("block", sizes, kind)
            for part in parts:
                self._fill(block, low, high, part)
            crc = _put(block, dtype, segment.dtype, crc, sink)
        return crc

    def _fill(self, block: NDArray[Any], low: Point, high: Point, part: Part) -> None:
        """Put what the part has of the box [low, high) into `block`."""
        first = tuple(map(max, part.low, low))
        last = tuple(map(min, part.high, high))
        if any(a >= b for a, b in zip(first, last, strict=True)):
            return
        place = tuple(slice(a - s, b - s) for a, b, s in zip(first, last, low, strict=True))
        starts = tuple(a - o for a, o in zip(first, part.origin, strict=True))
        stops = tuple(b - o for b, o in zip(last, part.origin, strict=True))
        chunk = part.chunk
        if chunk.lazy is not None:
            block[place] = read_box(*chunk.lazy, starts, stops)
            return
        sizes = tuple(b - a for a, b in zip(starts, stops, strict=True))
        steps = row_major(chunk.sizes, block.itemsize)
        span = _dot(tuple(size - 1 for size in sizes), steps) + block.itemsize
        if not chunk.plain or span > SPAN_BYTES:
            block[place] = chunk.array.read(starts, stops)
            return
        read = self._scratch("read", (span,), np.dtype(np.uint8))
        start = chunk.base + _dot(starts, steps)
        chunk.storage.read_into(chunk.file, start, read.data)
        if chunk.record is not None and span == math.prod(sizes) * block.itemsize:
            start -= chunk.record.offset
            self._ledger.read(chunk.record, start, start + span, crc32(read.data))
        block[place] = np.ndarray(sizes, block.dtype, read, strides=steps)

    def _scratch(self, name: str, sizes: Point, kind: np.dtype[Any]) -> NDArray[Any]:
        """An array in memory of the thread's own, good until it is asked for again by that name.

        New arrays of this size would be new pages each time, which cost more than what is read.
        """
        needed = math.prod(sizes) * kind.itemsize
        held = getattr(self._local, name, b"")
        if len(held) < needed:
            held = bytearray(max(needed, BLOCK_BYTES))
            setattr(self._local, name, held)
        return np.frombuffer(held, np.uint8, needed).view(kind).reshape(sizes)


def _stops(segment: NewTensor) -> Point:
    return tuple(a + n for a, n in zip(segment.starts, segment.sizes, strict=True))


def _blocks_of(segment: NewTensor, dtype: str) -> Iterator[tuple[Point, Point]]:
    """The boxes of a segment, in row order, that are put together one at a time."""
    most = max(1, BLOCK_BYTES // dtypes.itemsize(dtype))
    for starts, stops in boxes.split(segment.sizes, most):
        low = tuple(a + b for a, b in zip(segment.starts, starts, strict=True))
        yield low, tuple(a + b for a, b in zip(segment.starts, stops, strict=True))


def _put(block: NDArray[Any], dtype: str, to: str, crc: int, sink: Sink) -> int:
    """Write a block in another dtype, and return the checksum of all up to it."""
    made = np.ascontiguousarray(cast(block, dtype, to))
    data = made.reshape(-1).view(np.uint8).data
    sink.put(data)
    return crc32(data, crc)


def _torn(entry: TensorEntry, what: str, starts: Point, stops: Point) -> MalformedItem:
    return MalformedItem(
        f"{quote(entry.fqn)}: its chunks {what} [{boxes.text(starts, stops)}]",
        hint="dcpctl check says which elements no chunk holds, or several",
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """Bytes that lie in the source as in the result."""

    at: int
    source: int
    length: int
    part: Part


def _runs(parts: list[Part], segment: NewTensor, width: int) -> list[_Run] | None:
    """The parts as runs of bytes in the order of the result; None if one of them is not a run."""
    steps = row_major(segment.sizes, width)
    runs = []
    for part in parts:
        chunk = part.chunk
        starts = tuple(a - o for a, o in zip(part.low, part.origin, strict=True))
        stops = tuple(b - o for b, o in zip(part.high, part.origin, strict=True))
        inside = tuple(a - s for a, s in zip(part.low, segment.starts, strict=True))
        until = tuple(b - s for b, s in zip(part.high, segment.starts, strict=True))
        if not chunk.plain or not _in_row_order(starts, stops, chunk.sizes):
            return None
        if not _in_row_order(inside, until, segment.sizes):
            return None
        source = chunk.base + _dot(starts, row_major(chunk.sizes, width))
        runs.append(_Run(_dot(inside, steps), source, math.prod(part.sizes) * width, part))
    runs.sort(key=lambda run: run.at)
    position = 0
    for run in runs:
        if run.at != position:
            return None  # chunks that overlap
        position += run.length
    return runs


def _overlap(parts: list[Part]) -> bool:
    """Whether two parts share an element."""
    if len(parts) < 2:
        return False
    low = np.array([part.low for part in parts])
    high = np.array([part.high for part in parts])
    order = np.argsort(low[:, 0], kind="stable")
    low, high = low[order], high[order]
    if (high[:-1, 0] <= low[1:, 0]).all():
        return False  # slices along the first dimension, as nearly always
    for number in range(len(parts) - 1):
        shared = (low[number + 1 :] < high[number]) & (high[number + 1 :] > low[number])
        if shared.all(axis=1).any():
            return True
    return False


def _dot(a: Point, b: Point) -> int:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _in_row_order(starts: Point, stops: Point, sizes: Point) -> bool:
    """Whether a box of a contiguous array is one run of it."""
    cut = False
    for start, stop, size in zip(reversed(starts), reversed(stops), reversed(sizes), strict=True):
        if cut and stop - start != 1:
            return False
        cut = cut or stop - start != size
    return True
