"""Storage items as torch.save writes them, laid out before their numbers are read.

The archive is that of torch 2.7 and later byte for byte (`caffe2/serialize/inline_container.cc`,
`torch/serialization.py`): records stored uncompressed, each at a multiple of 64 bytes from the
start of the item, sizes and CRC-32 in data descriptors. Every release from 1.13 on reads it;
the records that older ones do not know (`byteorder`, `.format_version`, ...) they do not look for.
"""

from __future__ import annotations

import functools
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from dcpctl.errors import Refused, quote
from dcpctl.formats import dtypes
from dcpctl.formats.crc import crc32
from dcpctl.formats.pickles.emit import Call, GlobalRef, Persistent, dumps
from dcpctl.formats.pickles.standins import DType, Opaque, PackedTensor, TensorRef
from dcpctl.formats.tensor_values import TensorValue

_ALIGNMENT = 64
_FULL_32 = 0xFFFFFFFF
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
#: UTF-8 names; sizes and CRC-32 behind the data.
_FLAGS, _IN_DESCRIPTOR = 0x0800, 0x0008
#: Versions of miniz's ZIP64 end record: made by 3.0 on Unix, 4.5 needed.
_MADE_BY, _NEEDED = 0x031E, 45
_HEAD = ((".format_version", b"1"), (".storage_alignment", b"64"), ("byteorder", b"little"))
_TAIL = ("version", b"3\n")
#: First half of the serialization id: torch's hash of the record names. torch walks a hash set, so
#: it is a constant of the C++ library; by the number of storages, that of none for any other.
_NAMES_HASH = {0: 2908468677762923104, 1: 15728199511854643026, 2: 5611085236196705294}
_ID_BYTES = 40


@dataclass(frozen=True, slots=True)
class TensorItemLayout:
    """The bytes around the numbers of one tensor item: `prefix`, numbers, `suffix(crc32)`.

    Attributes:
        dtype: torch's name without `torch.`.
        shape: elements per dimension.
        prefix: all that comes before the numbers.
        data_bytes: bytes of the numbers, contiguous, little-endian, last dimension fastest.
        total_bytes: bytes of the item.
    """

    dtype: str
    shape: tuple[int, ...]
    prefix: bytes
    data_bytes: int
    total_bytes: int
    _head: tuple[_Record, ...]

    def suffix(self, crc32: int) -> bytes:
        """Return all that comes after the numbers.

        Args:
            crc32: CRC-32 of the numbers.
        """
        archive = _Archive(self._head, len(self.prefix))
        archive.close("data/0", self.data_bytes, crc32)
        archive.finish(storages=1)
        return b"".join(archive.parts)


@functools.lru_cache(maxsize=4096)
def tensor_item(dtype: str, shape: tuple[int, ...]) -> TensorItemLayout:
    """Lay out the item of a contiguous tensor.

    Args:
        dtype: torch's name without `torch.`, such as `float32`.
        shape: elements per dimension; none for a scalar.

    Raises:
        UnknownForm: no release has such a dtype.
    """
    data_bytes = math.prod(shape) * dtypes.itemsize(dtype)
    archive = _Archive()
    archive.add("data.pkl", dumps(_rebuild(dtype, shape, "0")))
    for name, data in _HEAD:
        archive.add(name, data)
    archive.open("data/0", data_bytes)
    prefix = b"".join(archive.parts)
    layout = TensorItemLayout(dtype, shape, prefix, data_bytes, 0, tuple(archive.records))
    total = len(prefix) + data_bytes + len(layout.suffix(0))
    return TensorItemLayout(dtype, shape, prefix, data_bytes, total, layout._head)


def value_item(value: object) -> bytes:
    """Return the item of a bytes entry.

    Args:
        value: what `pickles.emit.dumps` takes, and `TensorValue`.

    Raises:
        Refused: it holds an object that was never decoded (an `Opaque`, a large tensor) or that
            pickles are not written of.
    """
    storages: list[bytes] = []

    def reduce(part: object) -> object:
        if isinstance(part, TensorValue):
            storages.append(_numbers(part))
            return _rebuild(part.dtype, part.shape, str(len(storages) - 1))
        if isinstance(part, Opaque):
            raise Refused(f"an object of the class {quote(part.type)} cannot be written again")
        if isinstance(part, PackedTensor):
            raise Refused(f"a tensor of the class {quote(part.type)} cannot be written again")
        if isinstance(part, TensorRef):
            what = f"{part.dtype}{list(part.shape)}"
            raise Refused(f"a tensor {what} in a bytes entry is too large to be written again")
        raise Refused(f"a {quote(type(part).__name__)} cannot be written to a bytes entry")

    archive = _Archive()
    archive.add("data.pkl", dumps(value, reduce=reduce))
    for name, data in _HEAD:
        archive.add(name, data)
    for key, data in enumerate(storages):
        archive.add(f"data/{key}", data)
    archive.finish(storages=len(storages))
    return b"".join(archive.parts)


def _numbers(value: TensorValue) -> bytes:
    return np.ascontiguousarray(value.array).tobytes()


def _rebuild(dtype: str, shape: tuple[int, ...], key: str) -> Call:
    """What torch pickles for a contiguous CPU tensor (`Tensor._reduce_ex_internal`)."""
    known = dtypes.info(dtype)
    numel = math.prod(shape)
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    by_class = known.storage_class is not None
    storage = Persistent(
        (
            "storage",
            GlobalRef(
                f"torch.{known.storage_class}" if by_class else "torch.storage.UntypedStorage"
            ),
            key,
            "cpu",
            numel if by_class else numel * known.itemsize,
        )
    )
    hooks = Call("collections.OrderedDict", ())
    args: tuple[Any, ...] = (storage, 0, shape, tuple(reversed(strides)), False, hooks)
    if by_class:
        return Call("torch._utils._rebuild_tensor_v2", args)
    return Call("torch._utils._rebuild_tensor_v3", (*args, DType(dtype)))


@dataclass(frozen=True, slots=True)
class _Record:
    """A record for the central directory: name in the archive, flags, CRC-32, size, position."""

    name: bytes
    flags: int
    crc32: int
    size: int
    header: int


class _Archive:
    """A ZIP archive under construction.

    Attributes:
        parts: the bytes so far.
        records: the records so far.
    """

    def __init__(self, records: tuple[_Record, ...] = (), position: int = 0) -> None:
        self.parts: list[bytes] = []
        self.records = list(records)
        self._position = position
        self._header = records[-1] if records else None

    def _write(self, data: bytes) -> None:
        self.parts.append(data)
        self._position += len(data)

    def add(self, name: str, data: bytes) -> None:
        """Write a whole record."""
        self.open(name, len(data))
        self._write(data)
        self._position -= len(data)
        self.close(name, len(data), crc32(data))

    def open(self, name: str, size: int) -> None:
        """Write a record's local header, padded so that its data are aligned."""
        raw = f"archive/{name}".encode()
        start = self._position
        # In a local header the packed size stays zero, as miniz leaves it.
        wide = self._wide(size, start, packed=0)
        begin = start + _LOCAL.size + len(raw) + len(wide) + 4
        padding = -begin % _ALIGNMENT
        extra = wide + struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        flags = _FLAGS | (_IN_DESCRIPTOR if size else 0)
        header = (b"PK\3\4", 0, flags, 0, 0, 0, 0, 0, 0, len(raw), len(extra))
        self._write(_LOCAL.pack(*header) + raw + extra)
        self.records.append(_Record(raw, flags, 0, size, start))

    def close(self, name: str, size: int, crc: int) -> None:
        """Count the data that were written behind a header, and write their descriptor."""
        opened = self.records.pop()
        self.records.append(
            _Record(opened.name, opened.flags, crc if size else 0, size, opened.header)
        )
        self._position += size
        if size:
            wide = self._wide(size, opened.header)
            self._write(struct.pack("<4sL2Q" if wide else "<4s3L", b"PK\7\x08", crc, size, size))

    def finish(self, *, storages: int) -> None:
        """Write the last records and the directory."""
        self.add(*_TAIL)
        self.add(".data/serialization_id", self._serialization_id(storages))
        start = self._position
        for record in self.records:
            self._write(self._central(record))
        size, end, count = self._position - start, self._position, len(self.records)
        self._write(_END64.pack(b"PK\6\6", 44, _MADE_BY, _NEEDED, 0, 0, count, count, size, start))
        self._write(_LOCATOR.pack(b"PK\6\7", 0, end, 1))
        short = min(start, _FULL_32)
        self._write(_END.pack(b"PK\5\6", 0, 0, count, count, size, short, 0))

    def _central(self, record: _Record) -> bytes:
        wide = self._wide(record.size, record.header)
        size = min(record.size, _FULL_32)
        fields = (b"PK\1\2", 0, 0, record.flags, 0, 0, 0, record.crc32, size, size)
        lengths = (len(record.name), len(wide), 0, 0, 0, 0, min(record.header, _FULL_32))
        return _CENTRAL.pack(*fields, *lengths) + record.name + wide

    @staticmethod
    def _wide(size: int, header: int, packed: int | None = None) -> bytes:
        """The ZIP64 extra field, for what does not fit into 32 bits."""
        values = [size, size if packed is None else packed] if size >= _FULL_32 else []
        values += [header] if header >= _FULL_32 else []
        return struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values) if values else b""

    def _serialization_id(self, storages: int) -> bytes:
        """40 digits: a hash of the record names and one of the CRCs (`writeSerializationId`)."""
        names = _NAMES_HASH.get(storages, _NAMES_HASH[0])
        combined = 0
        for record in self.records:
            if record.size:
                mixed = record.crc32 + 0x9E3779B9 + (combined << 6) + (combined >> 2)
                combined ^= mixed & 0xFFFFFFFFFFFFFFFF
        return f"{names:020}{combined:020}".encode()
