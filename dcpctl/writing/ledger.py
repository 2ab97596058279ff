"""Which records of the source were read with which checksum: proof that none of them is damaged.

A record is mostly read in pieces, by several threads and for several output files. CRC-32s of
pieces are combined into that of the record, so that checking it costs no second reading.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from dcpctl.errors import ChecksumMismatch, quote
from dcpctl.formats.crc import combine

Key = tuple[int, int]
#: Records that were compared, and those read in part with their pieces: start, stop, CRC-32.
LedgerState = tuple[set[Key], list[tuple["Record", list[tuple[int, int, int]]]]]


@dataclass(frozen=True, slots=True)
class Record:
    """A record whose checksum is known.

    Attributes:
        source: number of its file in `Sources.files`.
        offset: its first byte there.
        size: its bytes.
        crc32: what the archive says of them.
        fqn: the entry that it belongs to.
        file: its file's name.
    """

    source: int
    offset: int
    size: int
    crc32: int
    fqn: str
    file: str

    def compare(self, found: int) -> None:
        """Raise ChecksumMismatch unless `found` is the recorded checksum."""
        if found != self.crc32:
            raise mismatch(self.fqn, self.file, self.offset, found, self.crc32)


def mismatch(fqn: str, file: str, offset: int, found: int, recorded: int) -> ChecksumMismatch:
    """The error for bytes that do not have their checksum."""
    return ChecksumMismatch(
        f"{quote(fqn)}: its bytes in {quote(file)} from byte {offset} on have CRC-32 {found:08x}, "
        f"{recorded:08x} is recorded; nothing was written",
        hint="the source is damaged; dcpctl check --verify-data names every damaged item",
    )


@dataclass(slots=True)
class _Open:
    """A record that is not wholly read yet: pieces [start, stop) with their CRC-32, in order."""

    record: Record
    starts: list[int] = field(default_factory=list)
    pieces: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, start: int, stop: int, crc: int) -> None:
        index = bisect_left(self.starts, start)
        if index and self.pieces[index - 1][1] == start:
            index -= 1
            first, _, before = self.pieces[index]
            piece = (first, stop, combine(before, crc, stop - start))
            self.pieces[index] = piece
        else:
            piece = (start, stop, crc)
            self.starts.insert(index, start)
            self.pieces.insert(index, piece)
        if index + 1 < len(self.pieces) and self.pieces[index + 1][0] == piece[1]:
            _, last, after = self.pieces[index + 1]
            self.pieces[index] = (piece[0], last, combine(piece[2], after, last - piece[1]))
            del self.starts[index + 1], self.pieces[index + 1]


class Ledger:
    """Keeps account of the records that are read. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Key, _Open] = {}
        self._closed: set[Key] = set()

    def expect(self, record: Record) -> None:
        """Say that a record contributes to the result, and so must be compared once."""
        key = (record.source, record.offset)
        with self._lock:
            if key not in self._closed and key not in self._open:
                self._open[key] = _Open(record)

    def read(self, record: Record, start: int, stop: int, crc: int) -> None:
        """Say that the bytes [start, stop) of an expected record were read and have that CRC-32.

        Raises:
            ChecksumMismatch: the record is now read in full and has another than its CRC-32.
        """
        if start == stop:
            return
        key = (record.source, record.offset)
        with self._lock:
            if key in self._closed:
                return
            entry = self._open.setdefault(key, _Open(record))
            entry.add(start, stop, crc)
            first, last, found = entry.pieces[0]
            if (first, last) != (0, record.size):
                return
            del self._open[key]
            self._closed.add(key)
        record.compare(found)

    def state(self) -> LedgerState:
        """All that is known, in plain values that another process can take over."""
        with self._lock:
            return set(self._closed), [(held.record, held.pieces) for held in self._open.values()]

    def take_over(self, state: LedgerState) -> None:
        """Add what another process has read.

        Raises:
            ChecksumMismatch: as `read`.
        """
        closed, partly = state
        with self._lock:
            self._closed |= closed
            for key in closed & self._open.keys():
                del self._open[key]
        for record, pieces in partly:
            self.expect(record)
            for start, stop, crc in pieces:
                self.read(record, start, stop, crc)

    def unread(self) -> Iterator[Record]:
        """The expected records that were not read in full."""
        with self._lock:
            left = sorted(self._open)
            records = [self._open[key].record for key in left]
        yield from records
