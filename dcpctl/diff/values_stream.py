"""Two tensors read side by side in bounded memory: bytes first, arithmetic where they differ."""

from __future__ import annotations

import math
import threading

import numpy as np

from dcpctl.diff.values_open import ChunkOpener, OpenChunk
from dcpctl.diff.values_regions import Point, Region, split
from dcpctl.diff.values_sums import Adder, Sums
from dcpctl.formats import dtypes
from dcpctl.model.entry import TensorEntry

#: Bytes of each side that are compared at once; both sides stay in the processor's outer cache.
BLOCK_BYTES = 512 << 10

_DTypes = tuple[str, str]


class Streamer:
    """Compares regions; its methods may be called from several threads.

    Args:
        opener: opens the chunks.
        tolerance: largest |a - b| that counts as equal.
    """

    def __init__(self, opener: ChunkOpener, tolerance: float = 0.0) -> None:
        self._opener = opener
        self._tolerance = tolerance
        self._local = threading.local()

    def compare(self, a: TensorEntry, b: TensorEntry, region: Region) -> Sums | None:
        """Compare one region.

        Returns:
            None if every bit is the same; else the sums, whose element numbers count in the region
            in row-major order.

        Raises:
            As `formats.chunk_read.open_chunk` and `Storage.read`.
        """
        if region.row < 0:
            return self._across(a, b, region)
        x, y = self._opener.open(a, region.row), self._opener.open(b, region.other)
        runs = [_run(a, region.row, x, region), _run(b, region.other, y, region)]
        if x.dtype == y.dtype and None not in runs:
            return self._bytes(x, y, runs, region)
        return self._arrays(a, b, x, y, region)

    def equal(self, a: TensorEntry, region: Region) -> Sums:
        """Return the sums of a region that `compare` found to be the same on both sides."""
        adder = self._adder((a.dtype, a.dtype))
        chunk = self._opener.open(a, region.row)
        total = Sums()
        for piece in split(region, _elements(a.dtype)):
            total.merge(adder.equal(chunk.read(*_inside(a, region.row, piece)).reshape(-1)))
        return total

    def _bytes(
        self, x: OpenChunk, y: OpenChunk, runs: list[int | None], region: Region
    ) -> Sums | None:
        """Compare a region that is one run of bytes on both sides."""
        first, second = runs
        assert first is not None and second is not None
        width = dtypes.itemsize(x.dtype)
        length = region.numel * width
        total: Sums | None = None
        one, two = self._buffers()
        adder = None
        for at in range(0, length, BLOCK_BYTES):
            size = min(BLOCK_BYTES, length - at)
            x.storage.read_into(x.file, first + at, memoryview(one)[:size])
            y.storage.read_into(y.file, second + at, memoryview(two)[:size])
            same = _same(one, two, size)
            if same and total is None:
                continue
            if adder is None:
                adder = self._adder((x.dtype, y.dtype))
                total = self._up_to(x, first, at, adder)
            assert total is not None
            kind = dtypes.numpy_dtype(x.dtype)
            p, q = (np.frombuffer(side, np.uint8, size).view(kind) for side in (one, two))
            total.merge(adder.equal(p) if same else adder.compare(p, q), at // width)
        return total

    def _up_to(self, x: OpenChunk, first: int, stop: int, adder: Adder) -> Sums:
        """The sums of the bytes before `stop`, which were found to be the same."""
        total = Sums()
        spare = bytearray(BLOCK_BYTES if stop else 0)
        for at in range(0, stop, BLOCK_BYTES):
            x.storage.read_into(x.file, first + at, spare)
            total.merge(adder.equal(np.frombuffer(spare, dtypes.numpy_dtype(x.dtype))))
        return total

    def _arrays(
        self, a: TensorEntry, b: TensorEntry, x: OpenChunk, y: OpenChunk, region: Region
    ) -> Sums | None:
        """Compare a region whose numbers lie otherwise on the two sides."""
        adder = self._adder((x.dtype, y.dtype))
        total = Sums()
        at = 0
        different = False
        for piece in split(region, min(_elements(x.dtype), _elements(y.dtype))):
            p = x.read(*_inside(a, region.row, piece)).reshape(-1)
            q = y.read(*_inside(b, region.other, piece)).reshape(-1)
            same = x.dtype == y.dtype and np.array_equal(p.view(np.uint8), q.view(np.uint8))
            different = different or not same
            total.merge(adder.equal(p) if same else adder.compare(p, q), at)
            at += piece.numel
        return total if different else None

    def _across(self, a: TensorEntry, b: TensorEntry, region: Region) -> Sums | None:
        """Compare a box that no pair of chunks holds; reading it says what is wrong with them."""
        adder = self._adder((a.dtype, b.dtype))
        total = Sums()
        at = 0
        for piece in split(region, min(_elements(a.dtype), _elements(b.dtype))):
            place = tuple(slice(c, d) for c, d in zip(piece.low, piece.high, strict=True))
            total.merge(adder.compare(a[place].reshape(-1), b[place].reshape(-1)), at)
            at += piece.numel
        return total

    def _buffers(self) -> tuple[bytearray, bytearray]:
        """Memory of the thread's own for a block of either side."""
        held: tuple[bytearray, bytearray] | None = getattr(self._local, "buffers", None)
        if held is None:
            held = self._local.buffers = (bytearray(BLOCK_BYTES), bytearray(BLOCK_BYTES))
        return held

    def _adder(self, kinds: _DTypes) -> Adder:
        """The thread's own adder for a pair of dtypes."""
        held: dict[_DTypes, Adder] = self._local.__dict__.setdefault("adders", {})
        if kinds not in held:
            held.clear()
            held[kinds] = Adder(kinds, self._tolerance)
        return held[kinds]


def _same(one: bytearray, two: bytearray, size: int) -> bool:
    """Whether the first `size` bytes of two buffers are the same."""
    if size == len(one):
        return one == two  # memcmp; a memoryview compares element by element
    return np.array_equal(np.frombuffer(one, np.uint8, size), np.frombuffer(two, np.uint8, size))


def _elements(dtype: str) -> int:
    return max(1, BLOCK_BYTES // dtypes.itemsize(dtype))


def _inside(entry: TensorEntry, row: int, region: Region) -> tuple[Point, Point]:
    """The box of a region in the indices of one of the tensor's chunks."""
    origin = entry.chunks.offsets[row].tolist()
    return (
        tuple(a - o for a, o in zip(region.low, origin, strict=True)),
        tuple(b - o for b, o in zip(region.high, origin, strict=True)),
    )


def _run(entry: TensorEntry, row: int, chunk: OpenChunk, region: Region) -> int | None:
    """Where the region begins in the chunk's file; None if it is no single run of bytes there."""
    if not chunk.plain:
        return None
    starts, stops = _inside(entry, row, region)
    cut = False
    for start, stop, size in zip(
        reversed(starts), reversed(stops), reversed(chunk.sizes), strict=True
    ):
        if cut and stop - start != 1:
            return None
        cut = cut or stop - start != size
    width = dtypes.itemsize(chunk.dtype)
    steps = [math.prod(chunk.sizes[dim + 1 :]) for dim in range(len(chunk.sizes))]
    return chunk.base + width * sum(a * b for a, b in zip(starts, steps, strict=True))
