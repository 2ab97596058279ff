"""torch.save archives and tensor pickles made by hand, with or without lies in them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dcpctl.formats.torch_zip import TorchItem, open_item
from dcpctl.storage.buffer import BufferStorage


def _long(number: int) -> bytes:
    if 0 <= number < 256:
        return b"K" + bytes([number])
    size = number.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + number.to_bytes(size, "little", signed=True)


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _tuple(numbers: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(_long, numbers)) + b"t"


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a contiguous tensor, in elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.insert(0, step)
        step *= max(size, 1)
    return tuple(strides)


def tensor_opcodes(
    shape: Sequence[int],
    *,
    stride: Sequence[int] | None = None,
    storage: str = "FloatStorage",
    numel: int = 0,
    offset: int = 0,
    key: str = "0",
    dtype: str | None = None,
    metadata: Sequence[str] = (),
) -> bytes:
    """The opcodes that push one tensor; `dtype` makes it `_rebuild_tensor_v3`."""
    module = b"torch.storage" if storage == "UntypedStorage" else b"torch"
    out = b"ctorch._utils\n_rebuild_tensor_v%d\n(" % (3 if dtype else 2)
    out += b"(" + _text("storage") + b"c" + module + b"\n" + storage.encode() + b"\n"
    out += _text(key) + _text("cpu") + _long(numel) + b"tQ" + _long(offset)
    out += _tuple(shape) + _tuple(contiguous(shape) if stride is None else stride)
    out += b"\x89ccollections\nOrderedDict\n)R"
    if dtype:
        out += b"ctorch\n" + dtype.encode() + b"\n"
    if metadata:
        out += b"}" + b"".join(_text(bit) + b"\x88s" for bit in metadata)
    return out + b"tR"


def tensor_pickle(shape: Sequence[int], **options: Any) -> bytes:
    """The `data.pkl` of a tensor entry; options as in `tensor_opcodes`."""
    return b"\x80\x02" + tensor_opcodes(shape, **options) + b"."


@dataclass
class Rec:
    """A record to write; the fields after `data` are lies where they are not None."""

    name: str
    data: bytes
    size: int | None = None
    packed: int | None = None
    crc: int | None = None
    method: int = 0
    flags: int = 0x0808
    header: int | None = None
    local_name: bytes | None = None
    local_extra: int | None = None
    local_sizes: tuple[int, int, int] = (0, 0, 0)
    local_method: int = 0
    local_flags: int | None = None
    disk: int = 0
    attributes: int = 0
    extra: bytes = b""
    raw_name: bytes | None = None


@dataclass
class Zip:
    """An archive to write; `end`, `end64` and `locator` replace fields of these by their index."""

    records: list[Rec]
    prefix: str = "archive/"
    crc: bool = True
    zip64: bool = True
    align: int = 64
    needed: int = 0
    before_directory: bytes = b""
    after_directory: bytes = b""
    end: dict[int, int] = field(default_factory=dict)
    end64: dict[int, int] = field(default_factory=dict)
    locator: dict[int, int] = field(default_factory=dict)
    comment: bytes = b""

    def build(self) -> bytes:
        out = bytearray()
        central = bytearray()
        for rec in self.records:
            self._record(out, central, rec)
        out += self.before_directory
        start = len(out)
        out += central + self.after_directory
        self._end(out, start, len(central))
        return bytes(out)

    def _record(self, out: bytearray, central: bytearray, rec: Rec) -> None:
        name = (self.prefix + rec.name).encode() if rec.raw_name is None else rec.raw_name
        header = len(out)
        padding = -(header + 30 + len(name) + 4) % self.align
        extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
        # torch writes no descriptor behind a record without data.
        flags = rec.flags if rec.data else rec.flags & ~8
        local_flags = flags if rec.local_flags is None else rec.local_flags
        local = name if rec.local_name is None else rec.local_name
        extra_length = len(extra) if rec.local_extra is None else rec.local_extra
        crc, packed, size = rec.local_sizes
        out += struct.pack(
            "<4s5H3L2H", b"PK\3\4", self.needed, local_flags, rec.local_method, 0, 0, crc, packed,
            size, len(local), extra_length,
        )  # fmt: skip
        out += local + extra + rec.data
        real = zlib.crc32(rec.data) if self.crc else 0
        crc = real if rec.crc is None else rec.crc
        if flags & 8:
            out += struct.pack("<4sLLL", b"PK\7\10", crc, len(rec.data), len(rec.data))
        central += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 0, self.needed, flags, rec.method, 0, 0, crc,
            len(rec.data) if rec.packed is None else rec.packed,
            len(rec.data) if rec.size is None else rec.size,
            len(name), len(rec.extra), 0, rec.disk, 0, rec.attributes,
            header if rec.header is None else rec.header,
        )  # fmt: skip
        central += name + rec.extra

    def _end(self, out: bytearray, start: int, size: int) -> None:
        count = len(self.records)
        at = len(out)
        if self.zip64:
            values = [44, 0x031E, 45, 0, 0, count, count, size, start]
            for index, value in self.end64.items():
                values[index] = value
            out += struct.pack("<4sQ2H2L4Q", b"PK\6\6", *values)
            values = [0, at, 1]
            for index, value in self.locator.items():
                values[index] = value
            out += struct.pack("<4sLQL", b"PK\6\7", *values)
        values = [0, 0, count, count, size, start, len(self.comment)]
        for index, value in self.end.items():
            values[index] = value
        out += struct.pack("<4s4H2LH", b"PK\5\6", *values) + self.comment


def tensor_zip(pickle: bytes, data: bytes | None, **options: Any) -> Zip:
    """The archive of an entry as torch 2.7 and later write it; without data there is no storage."""
    records = [
        Rec("data.pkl", pickle),
        Rec(".format_version", b"1"),
        Rec(".storage_alignment", b"64"),
        Rec("byteorder", b"little"),
        *([] if data is None else [Rec("data/0", data)]),
        Rec("version", b"3\n"),
        Rec(".data/serialization_id", b"0" * 40),
    ]
    return Zip(records, **options)


def with_record(archive: Zip, name: str, **changes: Any) -> Zip:
    """A copy of `archive` in which one record is changed."""
    assert any(rec.name == name for rec in archive.records)
    changed = [replace(rec, **changes) if rec.name == name else rec for rec in archive.records]
    return replace(archive, records=changed)


def item_of(data: bytes, *, before: bytes = b"", after: bytes = b"") -> TorchItem:
    """Open `data` as an item between other bytes of a file."""
    storage = BufferStorage("test")
    storage.append(before + data + after)
    return open_item(storage, "f", len(before), len(data), subject="'x'")
