"""The work of comparing pairs of tensors, cut into what a thread takes at a time."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

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
from dcpctl.parallel import Meter, Threads

#: Bytes of one side that a thread compares at a time.
UNIT_BYTES = 8 << 20
#: Threads that decompress at a time: each may hold twice 64 MiB.
_DECOMPRESSING = 2

Pair = tuple[TensorEntry, TensorEntry]


@dataclass(eq=False, slots=True)
class _Comparison:
    """One pair: from which of its units on nothing counts any more, since that one failed."""

    pair: Pair
    failed: float = math.inf


@dataclass(frozen=True, slots=True)
class _Unit:
    """What a thread takes at a time, and of which pair."""

    of: _Comparison
    number: int
    regions: list[Region]


_Done = tuple[_Unit, "list[Sums | None] | DcpctlError"]


class Work:
    """What all threads share: the opened chunks, and the bytes done."""

    def __init__(self, tolerance: float, progress: Callable[[int, int], None] | None) -> None:
        self.opener = ChunkOpener()
        self.streamer = Streamer(self.opener, tolerance)
        self.meter = Meter(progress, 0)
        self._room = threading.BoundedSemaphore(_DECOMPRESSING)

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

    def compare(self, pairs: Sequence[Pair], threads: Threads) -> Iterator[ValueDifference]:
        """Yield what is different in each pair, in order, while the next ones are being read."""
        units = (unit for pair in pairs for unit in _units(_Comparison(pair)))
        done = threads.in_order(self._unit, units)
        for comparison, of_pair in groupby(done, key=lambda found: found[0].of):
            yield self._summed_up(comparison.pair, of_pair, threads)

    def _unit(self, unit: _Unit) -> _Done:
        """Compare the regions of a unit, one after the other."""
        if unit.number > unit.of.failed:
            return unit, []
        pair = unit.of.pair
        try:
            if any(entry.stored.transforms for entry in pair):
                with self._room:
                    found = [self.streamer.compare(*pair, region) for region in unit.regions]
                    self.opener.forget()
            else:
                found = [self.streamer.compare(*pair, region) for region in unit.regions]
        except DcpctlError as error:
            unit.of.failed = min(unit.of.failed, unit.number)
            return unit, error
        elements = sum(region.numel for region in unit.regions)
        self.meter.add(elements * sum(dtypes.itemsize(entry.dtype) for entry in pair))
        return unit, found

    def _summed_up(self, pair: Pair, done: Iterable[_Done], threads: Threads) -> ValueDifference:
        a, b = pair
        pieces: list[tuple[Region, Sums | None]] = []
        failure: DcpctlError | None = None
        for unit, found in done:
            if isinstance(found, DcpctlError):
                failure = failure or found
            elif failure is None:
                pieces += zip(unit.regions, found, strict=True)
        if failure is not None:
            return ValueDifference(a.fqn, b.fqn, a.numel, failure=failure)
        alike = [region for region, sums in pieces if sums is None]
        different = len(alike) < len(pieces)
        try:
            # Their norms count where any other piece differs, and only there.
            equal = threads.in_order(lambda region: self._equal(a, region), alike)
            return summed_up(a, b, pieces, list(equal) if different else [])
        except DcpctlError as error:
            return ValueDifference(a.fqn, b.fqn, a.numel, failure=error)

    def _equal(self, a: TensorEntry, region: Region) -> Sums:
        """Add up a piece that is the same on both sides."""
        if not a.stored.transforms:
            return self.streamer.equal(a, region)
        with self._room:
            sums = self.streamer.equal(a, region)
            self.opener.forget()
            return sums


def _units(of: _Comparison) -> Iterator[_Unit]:
    """Cut the work on a pair into what a thread takes at a time; one unit at least."""
    for number, unit in enumerate(_portions(*of.pair) or [[]]):
        yield _Unit(of, number, unit)


def _portions(a: TensorEntry, b: TensorEntry) -> list[list[Region]]:
    most = max(1, UNIT_BYTES // max(a.itemsize, b.itemsize))
    portions: list[list[Region]] = []
    left = 0
    for region in regions(a, b):
        whole = bool(a.stored.transforms or b.stored.transforms) or region.row < 0
        # What is compressed is decompressed anew for each piece, so it is not cut.
        for piece in [region] if whole else split(region, most):
            if left <= 0:
                portions.append([])
                left = most
            portions[-1].append(piece)
            left -= piece.numel
    return portions
