"""The ZIP archive that torch.save writes, found by its end record and read by ranges.

torch (`caffe2/serialize/inline_container.cc`) stores every record uncompressed, with sizes and
CRC-32 in a trailing data descriptor, so the local headers hold zeros and only the central directory
counts. Nothing is searched for: a stored record may itself be an archive.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

from dcpctl import limits
from dcpctl.errors import LimitExceeded, MalformedItem, quote
from dcpctl.storage.base import Storage

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 1
_IN_DESCRIPTOR = 8
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF

#: Items up to this size are read with one call.
_WHOLE_BYTES = 64 << 10
#: Bytes read around a place of a larger item: the directory of a tensor item has some 500.
_PAGE_BYTES = 4 << 10
_PAGES = 4


@dataclass(frozen=True, slots=True)
class ZipRecord:
    """One record of an archive.

    Attributes:
        name: without the archive's prefix: `data.pkl`, `data/0`, `version`.
        data_offset: byte offset of the data in the file (or decompressed buffer) of the item.
        size: bytes of data.
        crc32: recorded CRC-32 of the data; None if the archive records none
            (`torch.serialization.set_crc32_options(False)` writes 0 everywhere).
    """

    name: str
    data_offset: int
    size: int
    crc32: int | None


class Window:
    """One storage item as a byte sequence of its own, with its small parts read only once.

    Args:
        storage: where the item lies.
        name: its file.
        offset: first byte of the item in the file.
        length: bytes of the item.
    """

    def __init__(self, storage: Storage, name: str, offset: int, length: int) -> None:
        self.storage = storage
        self.name = name
        self.offset = offset
        self.length = length
        self._pages: list[tuple[int, bytes]] = []

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop) of the item; the caller keeps within `length`."""
        for first, page in self._pages:
            if first <= start and stop <= first + len(page):
                return page[start - first : stop - first]
        if self.length <= _WHOLE_BYTES:
            first, last = 0, self.length
        elif stop - start >= _PAGE_BYTES:
            return self.storage.read(self.name, self.offset + start, stop - start)
        else:
            # What is asked for at the end of the item lies before it, elsewhere behind it.
            first = max(0, min(start, self.length - _PAGE_BYTES))
            last = min(self.length, first + _PAGE_BYTES)
        page = self.storage.read(self.name, self.offset + first, last - first)
        self._pages = [*self._pages[1 - _PAGES :], (first, page)]
        return page[start - first : stop - first]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A central directory entry; offsets count from the start of the item."""

    name: str
    flags: int
    crc32: int
    size: int
    header: int


def read_directory(window: Window, subject: str) -> tuple[dict[str, ZipRecord], list[str]]:
    """Read the records of the archive that fills `window`.

    Args:
        window: the item.
        subject: the item, for messages.

    Returns:
        Records by name without the archive's prefix, in the archive's order, and what is unusual
        but harmless about the archive, a sentence each.

    Raises:
        MalformedItem: no end record at the end, records that are compressed, encrypted, doubled,
            overlapping or outside the item, or headers that contradict the directory.
        LimitExceeded: more records than `limits.ZIP_RECORDS`.
        TruncatedFile: the file ends inside the item.
    """
    reader = _DirectoryReader(window, subject)
    entries = reader.entries()
    return reader.records(entries), reader.problems


class _DirectoryReader:
    def __init__(self, window: Window, subject: str) -> None:
        self.window = window
        self.subject = subject
        self.problems: list[str] = []
        self.directory = 0

    def fail(self, what: str) -> NoReturn:
        raise MalformedItem(f"{self.subject}: malformed torch.save archive: {what}")

    # -- end records ------------------------------------------------------------------------------

    def entries(self) -> list[_Entry]:
        """Find and parse the central directory."""
        count, size, start, end = self._end_record()
        if count > limits.ZIP_RECORDS or size > limits.ZIP_DIRECTORY_BYTES:
            raise LimitExceeded(
                f"{self.subject}: an archive of {count} records with a directory of {size} bytes"
            )
        if start + size > end or count * _CENTRAL.size > size:
            self.fail(
                f"{count} records in {size} bytes of directory at byte {start} do not fit "
                f"before byte {end}"
            )
        if start + size < end:
            self.problems.append(f"{end - start - size} unused bytes after the directory")
        self.directory = start
        return self._parse(self.window.read(start, start + size), count)

    def _end_record(self) -> tuple[int, int, int, int]:
        """Return the directory's count of records, size, start, and where the end records begin."""
        end = self.window.length - _END.size
        if end < 0:
            self.fail(f"it has {self.window.length} bytes, fewer than an end record")
        fields = _END.unpack(self.window.read(end, self.window.length))
        signature, disk, first_disk, here, count, size, start, comment = fields
        if signature != b"PK\5\6" or comment:
            self.fail("it does not end with an end record")
        found = self._end_record64(end)
        if found is None:
            if _FULL_16 in (disk, first_disk, here, count) or _FULL_32 in (size, start):
                self.fail("its ZIP64 end record is missing")
            found = (disk, first_disk, here, count, size, start, end)
        else:
            small = (disk, first_disk, here, count, size, start)
            caps = (_FULL_16, _FULL_16, _FULL_16, _FULL_16, _FULL_32, _FULL_32)
            for value, large, cap in zip(small, found, caps, strict=False):
                if value not in (large, cap):
                    self.fail(f"its two end records disagree ({value} and {large})")
        disk, first_disk, here, count, size, start, end = found
        if disk or first_disk or here != count:
            self.fail("it says that it spans several disks")
        return count, size, start, end

    def _end_record64(self, end: int) -> tuple[int, int, int, int, int, int, int] | None:
        """Read the ZIP64 end record, which torch always writes, if its locator is there."""
        at = end - _LOCATOR.size
        if at < 0:
            return None
        signature, disk, start, _disks = _LOCATOR.unpack(self.window.read(at, end))
        if signature != b"PK\6\7":
            return None
        if disk or start + _END64.size > at:
            self.fail(f"its ZIP64 end record is said to be at byte {start}")
        fields = _END64.unpack(self.window.read(start, start + _END64.size))
        signature, size, _made, _needed, disk, first_disk, here, count, length, first = fields
        if signature != b"PK\6\6" or start + 12 + size > at:
            self.fail(f"no ZIP64 end record at byte {start}")
        return disk, first_disk, here, count, length, first, start

    # -- central directory ------------------------------------------------------------------------

    def _parse(self, data: bytes, count: int) -> list[_Entry]:
        entries = []
        position = 0
        for number in range(count):
            if position + _CENTRAL.size > len(data):
                self.fail(f"its directory ends in record {number} of {count}")
            fields = _CENTRAL.unpack_from(data, position)
            names, extras, comments = fields[10:13]
            name_end = position + _CENTRAL.size + names
            end = name_end + extras + comments
            if fields[0] != b"PK\1\2" or end > len(data):
                self.fail(f"its directory breaks off at record {number} of {count}")
            raw = data[position + _CENTRAL.size : name_end]
            entries.append(self._entry(raw, data[name_end : name_end + extras], fields))
            position = end
        if position < len(data):
            self.problems.append(f"{len(data) - position} unused bytes in the directory")
        return entries

    def _entry(self, raw: bytes, extra: bytes, fields: tuple[int, ...]) -> _Entry:
        flags, method = fields[3:5]
        crc32, packed, size = fields[7:10]
        disk, header = fields[13], fields[16]
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            self.fail("the name of a record is not UTF-8")
        size, packed, header = self._wide(extra, (size, packed, header))
        if method or flags & _ENCRYPTED or packed != size:
            self.fail(f"record {quote(name)} is compressed or encrypted, which torch never does")
        if disk not in (0, _FULL_16):
            self.fail("it says that it spans several disks")
        return _Entry(name, flags, crc32, size, header)

    def _wide(self, extra: bytes, values: tuple[int, int, int]) -> list[int]:
        """Replace each saturated 32-bit value by the next one of the ZIP64 extra field."""
        wide = list(values)
        if _FULL_32 not in wide:
            return wide
        position = 0
        while position + 4 <= len(extra):
            kind, length = struct.unpack_from("<2H", extra, position)
            body = extra[position + 4 : position + 4 + length]
            position += 4 + length
            if kind != 1:
                continue
            saturated = [index for index, value in enumerate(wide) if value == _FULL_32]
            if len(body) < 8 * len(saturated):
                break
            for slot, index in enumerate(saturated):
                (wide[index],) = struct.unpack_from("<Q", body, 8 * slot)
            return wide
        return self.fail("a ZIP64 size is missing from its directory")

    # -- local headers ----------------------------------------------------------------------------

    def records(self, entries: list[_Entry]) -> dict[str, ZipRecord]:
        """Find each entry's data behind its local header, and see that no two overlap."""
        # torch takes the first record's first component as the archive's name.
        prefix = entries[0].name.partition("/")[0] + "/" if entries else ""
        has_crc = any(entry.crc32 for entry in entries)
        found: dict[str, ZipRecord] = {}
        spans: list[tuple[int, int, str]] = []
        for entry in entries:
            start = self._data_start(entry)
            if not entry.name.startswith(prefix) or len(entry.name) == len(prefix):
                self.fail(f"record {quote(entry.name)} is not in the folder {quote(prefix)}")
            name = entry.name[len(prefix) :]
            if name in found:
                self.fail(f"two records are named {quote(name)}")
            crc32 = entry.crc32 if has_crc or not entry.size else None
            found[name] = ZipRecord(name, self.window.offset + start, entry.size, crc32)
            spans.append((entry.header, start + entry.size, entry.name))
        spans.sort()
        for (_, stop, name), (start, _, after) in pairwise(spans):
            if stop > start:
                self.fail(f"records {quote(name)} and {quote(after)} overlap")
        return found

    def _data_start(self, entry: _Entry) -> int:
        """Return where the entry's data begin, counted from the start of the item."""
        name = entry.name.encode()
        start = entry.header + _LOCAL.size + len(name)
        if start > self.directory:
            self.fail(f"record {quote(entry.name)} is said to begin at byte {entry.header}")
        header = self.window.read(entry.header, start)
        fields = _LOCAL.unpack_from(header)
        signature, _, flags, method, _, _, crc32, packed, size, names, extras = fields
        if signature != b"PK\3\4" or names != len(name) or header[_LOCAL.size :] != name:
            self.fail(f"no record {quote(entry.name)} at byte {entry.header}")
        if method or (flags ^ entry.flags) & (_ENCRYPTED | _IN_DESCRIPTOR):
            self.fail(f"the header of record {quote(entry.name)} contradicts the directory")
        if not flags & _IN_DESCRIPTOR:
            differs = crc32 != entry.crc32
            for value in (packed, size):
                differs = differs or value not in (entry.size, _FULL_32)
            if differs:
                self.fail(f"the header of record {quote(entry.name)} contradicts the directory")
        start += int(extras)
        if start + entry.size > self.directory:
            self.fail(
                f"record {quote(entry.name)} of {entry.size} bytes does not fit before the "
                f"directory at byte {self.directory}"
            )
        return start
