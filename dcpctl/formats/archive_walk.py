"""The storage items of a shard file, found without metadata: archives that lie back to back.

Nothing is searched for at random. From the end of a whole file each archive's end record says where
it begins, which is where the one before it ends (`caffe2/serialize/inline_container.cc` writes end
records of fixed form, with positions that count from the archive's start). Of a file that was cut
off the end is gone; there the records are walked from the start, each up to the data descriptor
that tells its own size. Compressed items are zstd frames (RFC 8878), walked by their block headers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from dcpctl import limits
from dcpctl.storage.base import Storage

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_NARROW, _WIDE = struct.Struct("<4s3L"), struct.Struct("<4sL2Q")
_TAIL_BYTES = _END64.size + _LOCATOR.size + _END.size
_IN_DESCRIPTOR = 8
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF
_BLOCK_BYTES = 1 << 20
_ZSTD_MAGIC = 0xFD2FB528

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Walk:
    """The archives of one file.

    Attributes:
        size: bytes of the file.
        front: (offset, length) of the archives from the start on, back to back.
        back: those that lie back to back up to the end, in file order; empty where `front` reaches
            it.
        hole: first byte and first byte after what no archive accounts for; None if there is none.
    """

    size: int
    front: tuple[Place, ...]
    back: tuple[Place, ...] = ()
    hole: Place | None = None

    @property
    def whole(self) -> bool:
        """Whether every byte belongs to an archive."""
        return self.hole is None

    @property
    def items(self) -> tuple[Place, ...]:
        """All archives in file order."""
        return self.front + self.back


def walk_archives(
    storage: Storage, name: str, *, compressed: bool = False, most: int | None = None
) -> Walk:
    """Find the archives of a shard file; reads some hundred bytes of each, of a cut file more.

    Args:
        storage: the directory.
        name: the file in it.
        compressed: each item is a zstd frame instead of a bare archive.
        most: archives after which to stop from either side, as if no more were there; None for no
            end but the file's.

    Raises:
        As `Storage.read`, where the file cannot be read at all.
    """
    size = storage.size(name)
    if compressed:
        return _walk(size, list(islice(_frames(storage, name, size), most)), [])
    back = list(islice(_backward(storage, name, size), most))
    back.reverse()
    begin = back[0][0] if back else size
    if begin == 0:
        return Walk(size, tuple(back))
    front = list(islice(_forward(storage, name, begin), most))
    return _walk(size, front, back)


def _walk(size: int, front: list[Place], back: list[Place]) -> Walk:
    reached = sum(front[-1]) if front else 0
    begin = back[0][0] if back else size
    if reached == begin:
        return Walk(size, tuple(front + back))
    return Walk(size, tuple(front), tuple(back), (reached, begin))


# -- from the end ---------------------------------------------------------------------------------


def _backward(storage: Storage, name: str, end: int) -> Iterator[Place]:
    while end > 0:
        begin = _begin(storage, name, end)
        if begin is None:
            return
        yield begin, end - begin
        end = begin


def _begin(storage: Storage, name: str, end: int) -> int | None:
    """Where the archive begins that ends at `end`; None if none ends there."""
    have = min(end, _TAIL_BYTES)
    tail = storage.read(name, end - have, have)
    length = _length_by_tail(tail)
    if length is None or length > end or length < _LOCAL.size:
        return None
    begin = end - length
    return begin if storage.read(name, begin, 4) == b"PK\3\4" else None


def _length_by_tail(tail: bytes) -> int | None:
    """Bytes of an archive with these last bytes; None if they are no archive's."""
    if len(tail) < _END.size:
        return None
    signature, *_disks, count, size, start, comment = _END.unpack_from(tail, len(tail) - _END.size)
    if signature != b"PK\5\6" or comment:
        return None
    if len(tail) == _TAIL_BYTES:
        end64 = _END64.unpack_from(tail)
        locator = _LOCATOR.unpack_from(tail, _END64.size)
        if end64[0] == b"PK\6\6" and locator[0] == b"PK\6\7":
            directory, first = end64[8], end64[9]
            if locator[2] != first + directory:
                return None
            return int(first + directory + _TAIL_BYTES)
    if count == _FULL_16 or _FULL_32 in (size, start):
        return None
    return int(start + size + _END.size)


# -- from the start -------------------------------------------------------------------------------


def _forward(storage: Storage, name: str, stop: int) -> Iterator[Place]:
    at = 0
    while at < stop:
        end = _archive_end(storage, name, at, stop)
        if end is None:
            return
        yield at, end - at
        at = end


def _archive_end(storage: Storage, name: str, begin: int, stop: int) -> int | None:
    """First byte after the archive at `begin`; None if it is not all there before `stop`."""
    at = begin
    for _ in range(limits.ZIP_RECORDS):
        head = storage.read(name, at, min(_CENTRAL.size, stop - at))
        if len(head) >= _LOCAL.size and head[:4] == b"PK\3\4":
            after = _record_end(storage, name, at, head, stop)
            if after is None:
                return None
            at = after
        elif at > begin and head[:4] == b"PK\1\2":
            return _directory_end(storage, name, begin, at, stop)
        else:
            return None
    return None


def _record_end(storage: Storage, name: str, at: int, head: bytes, stop: int) -> int | None:
    """First byte after the record whose local header is at `at`."""
    _, _, flags, method, _, _, _, packed, _, names, extras = _LOCAL.unpack_from(head)
    data = at + _LOCAL.size + names + extras
    if method or data > stop:
        return None
    if not flags & _IN_DESCRIPTOR:
        return data + packed if data + packed <= stop else None
    return _descriptor_end(storage, name, data, stop)


def _descriptor_end(storage: Storage, name: str, data: int, stop: int) -> int | None:
    """First byte after the data descriptor that tells the distance from `data` to itself.

    The signature and both sizes are 12 or 20 bytes that have to agree with where they stand, so
    that a descriptor inside the data, of an archive in the archive, is not taken for this one.
    """
    at, carried = data, b""
    while at < stop:
        block = carried + storage.read(name, at, min(_BLOCK_BYTES, stop - at))
        base = at - len(carried)
        at = base + len(block)
        # What begins in the last bytes is looked at with the next block, unless there is none.
        whole = len(block) if at == stop else len(block) - _WIDE.size + 1
        found = block.find(b"PK\7\x08", 0, whole + 3)
        while 0 <= found < whole:
            for form in (_NARROW, _WIDE):
                if len(block) >= found + form.size:
                    sizes = form.unpack_from(block, found)[2:]
                    if sizes == (base + found - data,) * 2:
                        return base + found + form.size
            found = block.find(b"PK\7\x08", found + 1, whole + 3)
        carried = block[whole:]
    return None


def _directory_end(storage: Storage, name: str, begin: int, at: int, stop: int) -> int | None:
    """First byte after the end records of the archive whose directory is at `at`."""
    directory = at
    while at + _END.size <= stop:
        head = storage.read(name, at, min(_CENTRAL.size, stop - at))
        if head[:4] != b"PK\1\2":
            break
        if len(head) < _CENTRAL.size:
            return None
        at += _CENTRAL.size + sum(_CENTRAL.unpack(head)[10:13])
    for length in (_TAIL_BYTES, _END.size):
        if at + length <= stop:
            told = _length_by_tail(storage.read(name, at, length))
            if told == at + length - begin and at > directory:
                return at + length
    return None


# -- compressed -----------------------------------------------------------------------------------


def _frames(storage: Storage, name: str, size: int) -> Iterator[Place]:
    at = 0
    while at < size:
        end = _frame_end(storage, name, at, size)
        if end is None:
            return
        yield at, end - at
        at = end


def _frame_end(storage: Storage, name: str, at: int, stop: int) -> int | None:
    """First byte after the zstd frame at `at`; None if it is not all there."""
    head = storage.read(name, at, min(18, stop - at))
    if len(head) < 6 or int.from_bytes(head[:4], "little") != _ZSTD_MAGIC:
        return None
    flags = head[4]
    single = flags >> 5 & 1
    content = (single, 2, 4, 8)[flags >> 6]
    at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + content
    while at + 3 <= stop:
        block = int.from_bytes(storage.read(name, at, 3), "little")
        kind, length = block >> 1 & 3, block >> 3
        if kind == 3:
            return None
        at += 3 + (1 if kind == 1 else length)
        if block & 1:
            at += 4 * (flags >> 2 & 1)
            return at if at <= stop else None
    return None
