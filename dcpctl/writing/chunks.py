"""Chunks of the source that are being read from: opened once, and remembered for a while."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from dataclasses import dataclass

from dcpctl.formats import dtypes
from dcpctl.formats.chunk_read import ChunkSource, locate_raw, open_chunk
from dcpctl.formats.crc import crc32
from dcpctl.formats.pickles.standins import TensorRef
from dcpctl.formats.records import Chunk
from dcpctl.formats.strided import StridedBytes, in_order, row_major
from dcpctl.formats.torch_zip import TorchItem
from dcpctl.formats.zip_directory import ZipRecord
from dcpctl.model.entry import TensorEntry
from dcpctl.storage.base import Storage
from dcpctl.writing.ledger import Ledger, Record, mismatch
from dcpctl.writing.sources import Sources
from dcpctl.writing.templates import Templates

_REMEMBERED = 2048


@dataclass(frozen=True, slots=True, eq=False)
class OpenChunk:
    """A chunk, ready to be read.

    Attributes:
        storage: where its file lies.
        file: its name there.
        base: byte offset of its first element.
        strides: bytes between neighbours per dimension.
        sizes: elements per dimension.
        dtype: torch's name.
        plain: its numbers lie in order, and are what they seem (no conjugate bit).
        record: its checksum; None if there is none, or it was compared already.
        lazy: the archive and its tensor, where the numbers have bits to be resolved (`conj`).
    """

    storage: Storage
    file: str
    base: int
    strides: tuple[int, ...]
    sizes: tuple[int, ...]
    dtype: str
    plain: bool
    record: Record | None
    lazy: tuple[TorchItem, TensorRef] | None

    @property
    def array(self) -> StridedBytes:
        """The chunk as an array in a file."""
        kind = dtypes.numpy_dtype(self.dtype)
        return StridedBytes(self.storage, self.file, self.base, kind, self.strides)


class ChunkOpener:
    """Opens chunks; may be used from several threads, chunks with transforms by one at a time.

    Args:
        sources: of the plan.
        ledger: is told of every checksum to compare.
    """

    def __init__(self, sources: Sources, ledger: Ledger) -> None:
        self._sources = sources
        self._ledger = ledger
        self._templates = Templates()
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, int], OpenChunk] = OrderedDict()
        self._transformed: tuple[tuple[int, int], OpenChunk] | None = None

    def open(self, entry: TensorEntry, row: int, chunk: Chunk) -> OpenChunk:
        """Open a chunk of an entry.

        Args:
            entry: the entry.
            row: number of the chunk.
            chunk: that row of the entry's chunk table.

        Raises:
            MissingFile: no storage item holds the chunk.
            ChecksumMismatch: its pickle does not have its checksum.
            As `formats.chunk_read.open_chunk`.
        """
        key = (id(entry), row)
        if entry.stored.transforms:
            return self._open_transformed(key, entry, row)
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = self._like_another(entry, chunk) or self._open(entry, row)
            with self._lock:
                self._known[key] = known
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return known

    def _open_transformed(self, key: tuple[int, int], entry: TensorEntry, row: int) -> OpenChunk:
        """Keep one decompressed item, which takes up to 64 MiB."""
        if self._transformed is not None and self._transformed[0] == key:
            return self._transformed[1]
        self._transformed = None
        opened = self._open(entry, row)
        self._transformed = (key, opened)
        return opened

    def _like_another(self, entry: TensorEntry, chunk: Chunk) -> OpenChunk | None:
        """Open a chunk whose archive is that of one opened before, but for the numbers."""
        if chunk.file < 0 or entry.stored.encoding != "torch":
            return None
        number = chunk.file + self._sources.first_file(entry)
        file = self._sources.files[number]
        key = (entry.dtype, chunk.sizes, chunk.length)
        found = self._templates.match(file.storage, file.name, chunk.offset, key)
        if found is None:
            return None
        ref, record = found
        return self._placed(number, entry.fqn, file.storage, file.name, ref, record)

    def _open(self, entry: TensorEntry, row: int) -> OpenChunk:
        chunk = entry.chunk_source(row)
        number = int(entry.chunks.file[row]) + self._sources.first_file(entry)
        file = self._sources.files[number]
        if chunk.encoding == "raw":
            return _raw(chunk, file.storage)
        item, ref = open_chunk(file.storage, chunk)
        data = item.record(f"data/{ref.key}")
        for record in (item.record("data.pkl"), *([data] if chunk.transforms else [])):
            if item.check_crc(record.name) is False:
                found = crc32(item.read(record.name)) if record is not data else 0
                place = (file.shard.name, chunk.offset)
                raise mismatch(entry.fqn, *place, found, record.crc32 or 0)
        if chunk.transforms:
            data = ZipRecord(data.name, data.data_offset, data.size, None)
        elif not (ref.conj or ref.neg):
            key = (chunk.dtype, chunk.shape, chunk.length)
            self._templates.learn(item, ref, chunk.offset, key)
        made = self._placed(number, entry.fqn, item.storage, item.file, ref, data)
        lazy = ref.conj or ref.neg
        return dataclasses.replace(made, plain=False, lazy=(item, ref)) if lazy else made

    def _placed(
        self,
        number: int,
        fqn: str,
        storage: Storage,
        name: str,
        ref: TensorRef,
        data: ZipRecord,
    ) -> OpenChunk:
        record = None
        if data.crc32 is not None and data.size:
            shard = self._sources.files[number].shard.name
            record = Record(number, data.data_offset, data.size, data.crc32, fqn, shard)
            self._ledger.expect(record)
        width = dtypes.itemsize(ref.dtype)
        strides = tuple(step * width for step in ref.stride)
        return OpenChunk(
            storage,
            name,
            data.data_offset + ref.storage_offset * width,
            strides,
            ref.shape,
            ref.dtype,
            in_order(ref.shape, strides, width),
            record,
            None,
        )


def _raw(chunk: ChunkSource, storage: Storage) -> OpenChunk:
    storage, name, offset = locate_raw(storage, chunk)
    strides = row_major(chunk.shape, dtypes.itemsize(chunk.dtype))
    return OpenChunk(storage, name, offset, strides, chunk.shape, chunk.dtype, True, None, None)
