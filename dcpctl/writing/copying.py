"""Storage items copied as they stand, with their checksums compared on the way."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from dcpctl.errors import quote
from dcpctl.formats.crc import crc32
from dcpctl.formats.torch_zip import TorchItem, open_item
from dcpctl.storage.base import Storage
from dcpctl.storage.buffer import BufferStorage
from dcpctl.writing.ledger import mismatch
from dcpctl.writing.segments import CopyItem
from dcpctl.writing.sink import Sink
from dcpctl.writing.sources import Sources

#: Items up to this size are held whole, and those whose bytes were seen before not looked into.
_SMALL_ITEM_BYTES = 4 << 10
_REMEMBERED = 4096


class ItemCopier:
    """Copies items; its methods may be called from several threads.

    Args:
        sources: of the plan.
        decompressing: held while an item is decompressed, which takes memory.
    """

    def __init__(self, sources: Sources, decompressing: AbstractContextManager[Any]) -> None:
        self._sources = sources
        self._decompressing = decompressing
        self._sound: set[bytes] = set()

    def copy(self, item: CopyItem, sink: Sink) -> None:
        """Copy one item.

        Raises:
            ChecksumMismatch: a record of it does not have its checksum.
            MalformedItem: it is no archive.
            As `Storage.read` and `Sink.put`.
        """
        file = self._sources.files[item.source]
        if item.encoding != "torch":
            copy_range(file.storage, file.name, item.offset, item.length, sink)
        elif item.transforms:
            self._check_transformed(item)
            copy_range(file.storage, file.name, item.offset, item.length, sink)
        elif item.length <= _SMALL_ITEM_BYTES:
            sink.put(self._small(item))
        else:
            self._archive(item, sink)

    def _small(self, item: CopyItem) -> bytes:
        file = self._sources.files[item.source]
        data = file.storage.read(file.name, item.offset, item.length)
        if data not in self._sound:
            held = BufferStorage(quote(item.subject))
            held.append(data)
            self._check(open_item(held, "", 0, item.length, subject=quote(item.subject)), item)
            if len(self._sound) < _REMEMBERED:
                self._sound.add(data)
        return data

    def _check_transformed(self, item: CopyItem) -> None:
        file = self._sources.files[item.source]
        with self._decompressing:
            archive = open_item(
                file.storage,
                file.name,
                item.offset,
                item.length,
                transforms=item.transforms,
                subject=quote(item.subject),
            )
            self._check(archive, item)

    def _check(self, archive: TorchItem, item: CopyItem) -> None:
        shard = self._sources.files[item.source].shard.name
        for name, record in archive.records.items():
            if archive.check_crc(name) is False:
                found = crc32(archive.read(name)) if record.size <= _SMALL_ITEM_BYTES else 0
                raise mismatch(item.subject, shard, item.offset, found, record.crc32 or 0)

    def _archive(self, item: CopyItem, sink: Sink) -> None:
        file = self._sources.files[item.source]
        subject = quote(item.subject)
        archive = open_item(file.storage, file.name, item.offset, item.length, subject=subject)
        position = item.offset
        for record in sorted(archive.records.values(), key=lambda record: record.data_offset):
            gap = record.data_offset - position
            copy_range(file.storage, file.name, position, gap, sink)
            crc = copy_range(file.storage, file.name, record.data_offset, record.size, sink)
            if record.crc32 is not None and record.crc32 != crc:
                at = record.data_offset
                raise mismatch(item.subject, file.shard.name, at, crc, record.crc32)
            position = record.data_offset + record.size
        rest = item.offset + item.length - position
        copy_range(file.storage, file.name, position, rest, sink)


def copy_range(storage: Storage, name: str, offset: int, length: int, sink: Sink) -> int:
    """Copy bytes and return their CRC-32."""
    crc = 0
    while length > 0:
        view = sink.room(length)
        storage.read_into(name, offset, view)
        crc = crc32(view, crc)
        offset += len(view)
        length -= len(view)
    return crc
