"""The work of comparing pairs of tensors, cut into what a thread takes at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from dcpctl.diff.values_difference import CHECKSUMS, SAME_BYTES, ValueDifference, summed_up
from dcpctl.diff.values_open import ChunkOpener
from dcpctl.diff.values_packed import compare_packed
from dcpctl.diff.values_proof import proven_by_crc, same_bytes
from dcpctl.diff.values_regions import Region, check_form, distinct_rows, regions, split
from dcpctl.diff.values_stream import Streamer
from dcpctl.diff.values_sums import Sums
from dcpctl.errors import DcpctlError, PackedItem
from dcpctl.formats import dtypes
from dcpctl.model.entry import TensorEntry

#: Bytes of one side that a thread compares at a time.
UNIT_BYTES = 8 << 20
#: Threads that decompress at a time: each may hold twice 64 MiB.
_DECOMPRESSING = 2

Pair = tuple[TensorEntry, TensorEntry]


class Work:
    """What all threads share: the opened chunks, and the bytes done."""

    def __init__(self, tolerance: float, progress: Callable[[int, int], None] | None) -> None:
        self.opener = ChunkOpener()
        self.streamer = Streamer(self.opener, tolerance)
        self.total = 0
        self.stopped = False
        self._progress = progress
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(_DECOMPRESSING)
        self._done = 0

    def prove(self, a: TensorEntry, b: TensorEntry, trust: bool) -> ValueDifference | None:
        """A difference that needs no numbers to be read; None if they are needed."""
        try:
            return self._prove(a, b, trust)
        except PackedItem:
            pass
        except DcpctlError as error:
            return ValueDifference(a.fqn, b.fqn, a.numel, failure=error)
        try:
            return compare_packed(a, b, trust=trust)
        except DcpctlError as error:
            return ValueDifference(a.fqn, b.fqn, a.numel, failure=error)

    def _prove(self, a: TensorEntry, b: TensorEntry, trust: bool) -> ValueDifference | None:
        for entry in (a, b):
            check_form(entry)
        if same_bytes(a, b):
            return ValueDifference(a.fqn, b.fqn, a.numel, SAME_BYTES)
        if trust and proven_by_crc(a, b, self.opener):
            return ValueDifference(a.fqn, b.fqn, a.numel, CHECKSUMS)
        for entry in (a, b):
            self._look_at(entry)
        return None

    def _look_at(self, entry: TensorEntry) -> None:
        """See that every chunk is in its file, before work in proportion to its size is planned."""
        if not entry.stored.transforms:
            for row in distinct_rows(entry).tolist():
                self.opener.open(entry, row)

    def unit(self, pair: Pair, unit: list[Region]) -> list[Sums | None]:
        """Compare the regions of a unit, one after the other."""
        if self.stopped:
            return []
        if any(entry.stored.transforms for entry in pair):
            with self._room:
                found = [self.streamer.compare(*pair, region) for region in unit]
                self.opener.forget()
        else:
            found = [self.streamer.compare(*pair, region) for region in unit]
        elements = sum(region.numel for region in unit)
        self.count(elements * sum(dtypes.itemsize(entry.dtype) for entry in pair))
        return found

    def equal(self, a: TensorEntry, piece: Region) -> Sums:
        """Add up a piece that is the same on both sides."""
        if not a.stored.transforms:
            return self.streamer.equal(a, piece)
        with self._room:
            sums = self.streamer.equal(a, piece)
            self.opener.forget()
            return sums

    def count(self, nbytes: int) -> None:
        """Say that so many bytes more have been compared."""
        with self._lock:
            self._done += nbytes
            if self._progress is not None:
                self._progress(min(self._done, self.total), self.total)


class Running:
    """The comparison of one pair, handed to the pool.

    Args:
        pair: the entries.
        work: what threads share.
        pool: the threads.
    """

    def __init__(self, pair: Pair, work: Work, pool: ThreadPoolExecutor) -> None:
        self.pair = pair
        self._work = work
        self._pool = pool
        self._units = list(_units(*pair))
        self.futures: list[Future[list[Sums | None]]] = [
            pool.submit(work.unit, pair, unit) for unit in self._units
        ]

    def result(self) -> ValueDifference:
        """Wait for it."""
        a, b = self.pair
        try:
            found = [sums for future in self.futures for sums in future.result()]
            pieces = [piece for unit in self._units for piece in unit]
            alike = [piece for piece, sums in zip(pieces, found, strict=True) if sums is None]
            different = len(alike) < len(pieces)
            # Their norms count where any other piece differs, and only there.
            equal = self._pool.map(self._equal, alike if different else [])
            return summed_up(a, b, zip(pieces, found, strict=True), list(equal))
        except DcpctlError as error:
            for future in self.futures:
                future.cancel()
            return ValueDifference(a.fqn, b.fqn, a.numel, failure=error)

    def _equal(self, piece: Region) -> Sums:
        return self._work.equal(self.pair[0], piece)


def _units(a: TensorEntry, b: TensorEntry) -> Iterator[list[Region]]:
    """Cut the work on a pair into what a thread takes at a time."""
    most = max(1, UNIT_BYTES // max(a.itemsize, b.itemsize))
    unit: list[Region] = []
    left = most
    for region in regions(a, b):
        whole = bool(a.stored.transforms or b.stored.transforms) or region.row < 0
        # What is compressed is decompressed anew for each piece, so it is not cut.
        for piece in [region] if whole else split(region, most):
            unit.append(piece)
            left -= piece.numel
            if left <= 0:
                yield unit
                unit, left = [], most
    if unit:
        yield unit
