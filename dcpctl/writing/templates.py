"""Archives that differ in nothing but their numbers, recognised without being parsed again.

All items of one dtype and shape that one release wrote are the same bytes, but for the numbers,
their checksum and the archive's serialization id, which is made of checksums. Whoever has parsed
one of them knows where the numbers of all others lie, once every other byte is seen to be equal.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dcpctl.formats.pickles.standins import TensorRef
from dcpctl.formats.torch_zip import TorchItem
from dcpctl.formats.zip_directory import ZipRecord
from dcpctl.storage.base import Storage

_ID = ".data/serialization_id"
_MOST_AROUND = 4 << 10
_REMEMBERED = 1024

#: dtype, shape and length of an item.
Key = tuple[str, tuple[int, ...], int]


@dataclass(frozen=True, slots=True, eq=False)
class _Template:
    """What items of one key have in common.

    Attributes:
        before: the bytes before the numbers.
        after: those behind them, with the checksums and the id blanked.
        blanks: where `after` is blanked, as (start, stop).
        sums: where the numbers' checksum stands in `after`.
        record: name of the record that holds the numbers.
        size: bytes of that record.
        ref: the tensor.
    """

    before: bytes
    after: bytes
    blanks: tuple[tuple[int, int], ...]
    sums: tuple[int, int]
    record: str
    size: int
    ref: TensorRef


class Templates:
    """Remembers parsed archives. Safe to use from several threads."""

    def __init__(self) -> None:
        self._known: dict[Key, _Template] = {}

    def match(
        self, storage: Storage, name: str, offset: int, key: Key
    ) -> tuple[TensorRef, ZipRecord] | None:
        """Return the tensor and its record of an item that is like one parsed before, else None.

        Args:
            storage: where the item lies.
            name: its file.
            offset: its first byte.
            key: what the metadata say of it.

        Raises:
            As `Storage.read`.
        """
        known = self._known.get(key)
        if known is None:
            return None
        start = len(known.before)
        if storage.read(name, offset, start) != known.before:
            return None
        stop = start + known.size
        after = storage.read(name, offset + stop, key[2] - stop)
        first, second = (after[at : at + 4] for at in known.sums)
        if first != second or _blank(after, known.blanks) != known.after:
            return None
        (crc32,) = struct.unpack("<L", first)
        return known.ref, ZipRecord(known.record, offset + start, known.size, crc32)

    def learn(self, item: TorchItem, ref: TensorRef, offset: int, key: Key) -> None:
        """Remember a parsed item whose pickle has the checksum that is recorded for it.

        Args:
            item: the archive, in its file.
            ref: its tensor.
            offset: its first byte in the file.
            key: what the metadata say of it.
        """
        data = item.record(f"data/{ref.key}")
        start = data.data_offset - offset
        stop = start + data.size
        around = key[2] - data.size
        if data.crc32 is None or not data.size or around > _MOST_AROUND or key in self._known:
            return
        after = item.storage.read(item.file, offset + stop, key[2] - stop)
        sums = _places(after, struct.pack("<L", data.crc32))
        blanks = [(at, at + 4) for at in sums]
        if _ID in item.records:
            record = item.record(_ID)
            at = record.data_offset - offset - stop
            blanks.append((at, at + record.size))
            its_sums = _places(after, struct.pack("<L", record.crc32 or 0))
            blanks += [(at, at + 4) for at in its_sums]
            if len(its_sums) != 2 or at < 0:
                return
        if len(sums) != 2 or len(self._known) >= _REMEMBERED:
            return
        before = item.storage.read(item.file, offset, start)
        self._known[key] = _Template(
            before,
            _blank(after, tuple(blanks)),
            tuple(blanks),
            (sums[0], sums[1]),
            data.name,
            data.size,
            ref,
        )


def _places(data: bytes, wanted: bytes) -> list[int]:
    found = []
    at = data.find(wanted)
    while at >= 0:
        found.append(at)
        at = data.find(wanted, at + 1)
    return found


def _blank(data: bytes, blanks: tuple[tuple[int, int], ...]) -> bytes:
    made = bytearray(data)
    for start, stop in blanks:
        made[start:stop] = bytes(stop - start)
    return bytes(made)
