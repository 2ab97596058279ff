"""The ZIP archive that torch.save writes: every byte of it accounted for, read by ranges.

torch (`caffe2/serialize/inline_container.cc`, over miniz) writes one form of archive, the same in
every release from 1.13 to 2.15: records uncompressed and back to back, each padded so that its data
are aligned, sizes and CRC-32 in a data descriptor behind the data and in the central directory,
then a ZIP64 end record, its locator and an end record. Only sizes, checksums and positions differ
from one archive to the next. So an archive is parsed by its directory, and then every header has to
be the very bytes that torch writes for these sizes at these places. Nothing is searched for, and
nothing is left over in which another reader could find another archive.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, NoReturn

from dcpctl import limits
from dcpctl.errors import BigEndianItem, LimitExceeded, MalformedItem, quote
from dcpctl.storage.base import Storage

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_TAIL_BYTES = _END64.size + _LOCATOR.size + _END.size
#: UTF-8 names; sizes and CRC-32 behind the data.
_FLAGS, _IN_DESCRIPTOR = 0x0800, 0x0008
#: Versions of miniz's ZIP64 end record: made by 3.0 on Unix, 4.5 needed.
_MADE_BY, _NEEDED = 0x031E, 45
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF
#: Fields of a central directory entry, in their order (PKWARE APPNOTE 4.3.12).
_FIELDS = (
    *("signature", "version made by", "version needed", "flags", "compression", "time", "date"),
    *("CRC-32", "packed size", "size", "name length", "extra length", "comment length", "disk"),
    *("internal attributes", "external attributes", "position"),
)
_PREFIX = b"archive/"
_PADDING = b"FB"
_ALIGNMENT = 64

#: Items up to this size are read with one call.
_WHOLE_BYTES = 64 << 10
#: Bytes read around a place of a larger item: the directory of a tensor item has some 500.
_PAGE_BYTES = 4 << 10
_PAGES = 4
#: The records in their order. `byteorder` and the id are there from torch 2.1 on, the two at the
#: start from 2.7 on; between `byteorder` and `version` stand the storages.
_FIRST = ("data.pkl", ".format_version", ".storage_alignment", "byteorder")
_LAST = ("version", ".data/serialization_id")
_DATA = "data/"
_ID_DIGITS = 40


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
    """A central directory entry; `header` counts from the start of the item."""

    raw: bytes
    crc32: int
    size: int
    header: int

    @property
    def is_wide(self) -> bool:
        """Whether a size or position of it does not fit into 32 bits."""
        return self.size >= _FULL_32 or self.header >= _FULL_32

    def extra(self, *, packed: int | None = None) -> bytes:
        """The ZIP64 extra field; in a local header the packed size stays zero, as in miniz."""
        values: list[int] = []
        if self.size >= _FULL_32:
            values = [self.size, self.size if packed is None else packed]
        values += [self.header] if self.header >= _FULL_32 else []
        return struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values) if values else b""

    def central(self) -> bytes:
        """The entry as torch writes it."""
        extra, short = self.extra(), min(self.size, _FULL_32)
        flags = _FLAGS | (_IN_DESCRIPTOR if self.size else 0)
        fields = (b"PK\1\2", 0, 0, flags, 0, 0, 0, self.crc32, short, short)
        lengths = (len(self.raw), len(extra), 0, 0, 0, 0, min(self.header, _FULL_32))
        return _CENTRAL.pack(*fields, *lengths) + self.raw + extra

    def local(self, padding: int) -> bytes:
        """The local header as torch writes it, with that many bytes of padding."""
        extra = self.extra(packed=0) + _PADDING + struct.pack("<H", padding) + b"Z" * padding
        flags = _FLAGS | (_IN_DESCRIPTOR if self.size else 0)
        fields = (b"PK\3\4", 0, flags, 0, 0, 0, 0, 0, 0, len(self.raw), len(extra))
        return _LOCAL.pack(*fields) + self.raw + extra

    def descriptor(self) -> bytes:
        """The data descriptor as torch writes it: none where there are no data."""
        if not self.size:
            return b""
        form = "<4sL2Q" if self.is_wide else "<4s3L"
        return struct.pack(form, b"PK\7\x08", self.crc32, self.size, self.size)


def read_directory(window: Window, subject: str) -> dict[str, ZipRecord]:
    """Read the records of the archive that fills `window`.

    Args:
        window: the item.
        subject: the item, for messages.

    Returns:
        Records by name without the archive's prefix, in the archive's order.

    Raises:
        MalformedItem: the archive differs from what torch writes in any byte that is no data,
            record or checksum, or has other records.
        BigEndianItem: it was written on a big-endian machine.
        LimitExceeded: more records than `limits.ZIP_RECORDS`.
        TruncatedFile: the file ends inside the item.
    """
    return _DirectoryReader(window, subject).records()


class _DirectoryReader:
    def __init__(self, window: Window, subject: str) -> None:
        self.window = window
        self.subject = subject

    def fail(self, what: str) -> NoReturn:
        raise MalformedItem(f"{self.subject}: malformed torch.save archive: {what}")

    # -- directory --------------------------------------------------------------------------------

    def entries(self) -> tuple[list[_Entry], int]:
        """Parse the central directory; return the entries and where it begins."""
        end = self.window.length - _TAIL_BYTES
        if end < 0:
            self.fail(f"it has {self.window.length} bytes, fewer than its end records")
        tail = self.window.read(end, self.window.length)
        if tail[-_END.size :][:4] != b"PK\5\6":
            self.fail("it does not end with an end record")
        fields = _END64.unpack_from(tail)
        count, size, start = fields[7:]
        if tail != _end_records(count, size, start, end):
            self.fail("its end records are not those that torch writes: another program made it")
        if count > limits.ZIP_RECORDS or size > limits.ZIP_DIRECTORY_BYTES:
            raise LimitExceeded(
                f"{self.subject}: an archive of {count} records with a directory of {size} bytes"
            )
        if start + size != end:
            self.fail(f"a directory of {size} bytes at byte {start} does not end at byte {end}")
        return self._parse(self.window.read(start, end), count), start

    def _parse(self, data: bytes, count: int) -> list[_Entry]:
        entries = []
        position = 0
        for number in range(count):
            if position + _CENTRAL.size > len(data):
                self.fail(f"its directory ends in record {number} of {count}")
            fields = _CENTRAL.unpack_from(data, position)
            name_end = position + _CENTRAL.size + fields[10]
            end = name_end + fields[11]
            entry = self._entry(
                data[position + _CENTRAL.size : name_end], data[name_end:end], fields
            )
            if data[position:end] != entry.central():
                self._fail_entry(entry, number, fields)
            entries.append(entry)
            position = end
        if position < len(data):
            self.fail(f"{len(data) - position} bytes in the directory are no record's")
        return entries

    def _fail_entry(self, entry: _Entry, number: int, fields: tuple[Any, ...]) -> NoReturn:
        """Say which field of a directory entry is not torch's."""
        wanted = _CENTRAL.unpack_from(entry.central())
        for field, found, torchs in zip(_FIELDS, fields, wanted, strict=True):
            if found != torchs:
                self.fail(
                    f"record {quote(entry.raw.decode('ascii', 'replace'))} has {field} {found} in "
                    f"the directory, torch writes {torchs}"
                )
        self.fail(f"record {number} has a field in the directory that torch does not write")

    def _entry(self, raw: bytes, extra: bytes, fields: tuple[int, ...]) -> _Entry:
        crc32, _packed, size = fields[7:10]
        header = fields[16]
        numbers = iter(
            struct.unpack(f"<{len(extra[4:]) // 8}Q", extra[4 : 4 + len(extra[4:]) // 8 * 8])
        )
        if size == _FULL_32:
            size = next(numbers, size)
            next(numbers, None)  # the packed size, which is the same
        if header == _FULL_32:
            header = next(numbers, header)
        return _Entry(raw, crc32, size, header)

    # -- records ----------------------------------------------------------------------------------

    def records(self) -> dict[str, ZipRecord]:
        """See that the records fill the item up to the directory, and that they are torch's."""
        entries, directory = self.entries()
        has_crc = any(entry.crc32 for entry in entries)
        found: dict[str, ZipRecord] = {}
        paddings: list[tuple[int, int]] = []
        position = 0
        descriptor = b""
        for entry in entries:
            name = self._name(entry)
            if name in found:
                self.fail(f"two records are named {quote(name)}")
            start, padding = self._data_start(entry, name, position, descriptor, directory)
            paddings.append((start, padding))
            descriptor = entry.descriptor()
            position = start + entry.size + len(descriptor)
            if position > directory:
                self.fail(f"record {quote(name)} does not fit before the directory")
            crc32 = entry.crc32 if has_crc or not entry.size else None
            found[name] = ZipRecord(name, self.window.offset + start, entry.size, crc32)
        if self.window.read(position - len(descriptor), position) != descriptor:
            self.fail("the last record has no data descriptor")
        if position != directory:
            self.fail(f"{directory - position} bytes before the directory are no record's")
        self._check_names(list(found))
        alignment = self._check_contents(found)
        for start, padding in paddings:
            if start % alignment or padding >= alignment:
                self.fail(f"data at byte {start} behind {padding} bytes of padding")
        return found

    def _name(self, entry: _Entry) -> str:
        try:
            name = entry.raw.decode("ascii")
        except UnicodeDecodeError:
            self.fail("the name of a record is not ASCII")
        prefix = _PREFIX.decode()
        if not name.startswith(prefix):
            self.fail(f"record {quote(name)} is not in the folder {quote(prefix)}")
        return name[len(prefix) :]

    def _data_start(
        self, entry: _Entry, name: str, position: int, descriptor: bytes, directory: int
    ) -> tuple[int, int]:
        """Where the record's data begin, and how much padding is before them.

        The record before ends at `position`, with its `descriptor`.
        """
        if entry.header != position:
            self.fail(
                f"record {quote(name)} is said to begin at byte {entry.header}, the one before it "
                f"ends at byte {position}"
            )
        fixed = position + _LOCAL.size
        if fixed > directory:
            self.fail(f"record {quote(name)} is said to begin at byte {entry.header}")
        before = position - len(descriptor)
        if self.window.read(before, position) != descriptor:
            self.fail(f"no data descriptor before record {quote(name)}")
        names, extras = _LOCAL.unpack(self.window.read(position, fixed))[9:]
        start = fixed + int(names) + int(extras)
        padding = int(extras) - len(entry.extra(packed=0)) - len(_PADDING) - 2
        if start > directory or padding < 0:
            self.fail(f"no record {quote(name)} at byte {position}")
        if self.window.read(position, start) != entry.local(padding):
            self.fail(f"the header of record {quote(name)} is not the one that torch writes")
        return start, padding

    def _check_names(self, names: list[str]) -> None:
        """See that the records are those of torch.save, in its order."""
        storages = [name for name in names if name.startswith(_DATA)]
        optional = {".format_version", ".storage_alignment", "byteorder", ".data/serialization_id"}
        wanted = [
            *(name for name in _FIRST if name not in optional or name in names),
            *storages,
            *(name for name in _LAST if name not in optional or name in names),
        ]
        if names != wanted:
            odd = [name for name in names if name not in wanted]
            lost = [name for name in wanted if name not in names]
            what = f"records {odd} are none of torch.save's" if odd else f"it lacks {lost}"
            self.fail(what if odd or lost else f"its records lie in another order: {names[:8]}")
        numbers = [str(number) for number in range(len(storages))]
        if storages not in (
            [_DATA + number for number in numbers],
            [_DATA + number for number in sorted(numbers)],
        ):
            self.fail("its storages are not numbered from 0 on")

    def _check_contents(self, found: dict[str, ZipRecord]) -> int:
        """See that the small records hold what torch writes there; return the alignment."""
        alignment = _ALIGNMENT
        for name, record in found.items():
            if name == "data.pkl" or name.startswith(_DATA):
                continue
            first = record.data_offset - self.window.offset
            data = self.window.read(first, first + min(record.size, _ID_DIGITS + 1))
            if name == "byteorder" and data == b"big":
                raise BigEndianItem(f"{self.subject}: written on a big-endian machine")
            if name == ".storage_alignment":
                if not data.isdigit() or data[:1] == b"0" or len(data) > 8:
                    self.fail(f"record {quote(name)} holds {data[:16]!r}")
                alignment = int(data)
            elif name == ".data/serialization_id":
                if len(data) != _ID_DIGITS or not data.isdigit():
                    self.fail(f"record {quote(name)} is not {_ID_DIGITS} digits")
            elif data != _CONTENTS[name]:
                self.fail(
                    f"record {quote(name)} holds {data[:16]!r}, torch writes {_CONTENTS[name]!r}"
                )
        return alignment


_CONTENTS = {"version": b"3\n", ".format_version": b"1", "byteorder": b"little"}


def _end_records(count: int, size: int, start: int, at: int) -> bytes:
    """The three end records of an archive, which torch writes at byte `at`."""
    few, here = min(count, _FULL_16), min(start, _FULL_32)
    return b"".join(
        (
            _END64.pack(b"PK\6\6", 44, _MADE_BY, _NEEDED, 0, 0, count, count, size, start),
            _LOCATOR.pack(b"PK\6\7", 0, at, 1),
            _END.pack(b"PK\5\6", 0, 0, few, few, min(size, _FULL_32), here, 0),
        )
    )
