"""Chunks of two checkpoints, opened: where their numbers lie, and which checksum they have."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from dcpctl.formats import dtypes
from dcpctl.formats.chunk_read import ChunkSource, locate_raw, open_chunk
from dcpctl.formats.pickles.standins import TensorRef
from dcpctl.formats.strided import StridedBytes, in_order, row_major
from dcpctl.formats.tensor_read import read_box
from dcpctl.formats.torch_zip import TorchItem
from dcpctl.formats.zip_directory import ZipRecord
from dcpctl.model.entry import TensorEntry
from dcpctl.storage.base import Storage
from dcpctl.writing.templates import Templates

_REMEMBERED = 2048
#: Decompressed items that a thread keeps: one of each side. Each may take 64 MiB.
_DECOMPRESSED = 2

Point = tuple[int, ...]


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
        plain: its numbers lie in row-major order without gaps and need no change (no conjugate or
            negative bit).
        crc32: checksum of the record that holds its numbers and nothing else; None if there is
            none, or the record holds more.
        lazy: the archive and its tensor, where the numbers have bits to be resolved.
    """

    storage: Storage
    file: str
    base: int
    strides: Point
    sizes: Point
    dtype: str
    plain: bool
    crc32: int | None
    lazy: tuple[TorchItem, TensorRef] | None = None

    def read(self, starts: Point, stops: Point) -> NDArray[Any]:
        """Read the box [starts, stops), which counts in the chunk, as a new array."""
        if self.lazy is not None:
            return read_box(*self.lazy, starts, stops)
        kind = dtypes.numpy_dtype(self.dtype)
        return StridedBytes(self.storage, self.file, self.base, kind, self.strides).read(
            starts, stops
        )

    def same_form(self, other: OpenChunk) -> bool:
        """Whether equal records mean equal numbers, and unequal ones unequal numbers."""
        return (
            self.lazy is None
            and other.lazy is None
            and (self.dtype, self.sizes) == (other.dtype, other.sizes)
            and (self.strides == other.strides or (self.plain and other.plain))
        )


class ChunkOpener:
    """Opens chunks and remembers them for a while. May be used from several threads."""

    def __init__(self) -> None:
        self._templates = Templates()
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, int], OpenChunk] = OrderedDict()
        self._local = threading.local()

    def open(self, entry: TensorEntry, row: int) -> OpenChunk:
        """Open a chunk of an entry.

        A compressed one is decompressed whole; each thread remembers the last two of them, until
        `forget`.

        Raises:
            As `TensorEntry.chunk_source` and `formats.chunk_read.open_chunk`.
        """
        key = (id(entry), row)
        if entry.stored.transforms:
            held: dict[Any, OpenChunk] = self._local.__dict__
            if key not in held:
                while len(held) >= _DECOMPRESSED:
                    del held[next(iter(held))]
                held[key] = self._open(entry.storage_of(row), entry.chunk_source(row))
            return held[key]
        known = self._known.get(key)
        if known is None:
            source = entry.chunk_source(row)
            known = self._open(entry.storage_of(row), source)
            with self._lock:
                self._known[key] = known
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return known

    def forget(self) -> None:
        """Give back the memory of the items that this thread decompressed."""
        self._local.__dict__.clear()

    def _open(self, storage: Storage, source: ChunkSource) -> OpenChunk:
        width = dtypes.itemsize(source.dtype)
        if source.encoding == "raw":
            storage, name, base = locate_raw(storage, source)
            storage.read(name, base + source.nbytes, 0)  # refused where the file ends before
            steps = row_major(source.shape, width)
            return OpenChunk(storage, name, base, steps, source.shape, source.dtype, True, None)
        key = (source.dtype, source.shape, source.length)
        if not source.transforms:
            found = self._templates.match(storage, source.file, source.offset, key)
            if found is not None:
                return _placed(storage, source.file, *found, None)
        item, ref = open_chunk(storage, source)
        lazy = (item, ref) if ref.conj or ref.neg else None
        if not source.transforms and lazy is None:
            self._templates.learn(item, ref, source.offset, key)
        return _placed(item.storage, item.file, ref, item.record(f"data/{ref.key}"), lazy)


def _placed(
    storage: Storage,
    name: str,
    ref: TensorRef,
    data: ZipRecord,
    lazy: tuple[TorchItem, TensorRef] | None,
) -> OpenChunk:
    width = dtypes.itemsize(ref.dtype)
    strides = tuple(step * width for step in ref.stride)
    numbers = width
    for size in ref.shape:
        numbers *= size
    return OpenChunk(
        storage,
        name,
        data.data_offset + ref.storage_offset * width,
        strides,
        ref.shape,
        ref.dtype,
        lazy is None and in_order(ref.shape, strides, width),
        # 0 is what writers that do not sum leave there.
        (data.crc32 or None) if numbers == data.size else None,
        lazy,
    )
