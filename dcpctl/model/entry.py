"""The entries of a checkpoint: tensors that are read by slices, and decoded objects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dcpctl import limits
from dcpctl.errors import (
    DcpctlError,
    LimitExceeded,
    MalformedItem,
    MalformedMetadata,
    MissingFile,
    quote,
)
from dcpctl.formats import dtypes
from dcpctl.formats.arrays import distinct
from dcpctl.formats.chunk_read import ChunkSource, open_held, read_chunk
from dcpctl.formats.pickles.packed import inner_tensors
from dcpctl.formats.pickles.standins import PackedTensor
from dcpctl.formats.records import ChunkTable, Int64s, StoredBytes, StoredTensor
from dcpctl.formats.tensor_read import read_box
from dcpctl.formats.torch_zip import open_item
from dcpctl.formats.value_read import ValueReader
from dcpctl.model import boxes
from dcpctl.model.shard_file import ShardFile
from dcpctl.model.values import type_name
from dcpctl.storage.local import LocalStorage

if TYPE_CHECKING:
    import torch

    from dcpctl.model.source import Box, Fetch

#: An index in each dimension.
Point = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where one shard file is read.

    Attributes:
        storage: its directory.
        name: its name there.
        values: decoder of the directory's bytes entries.
    """

    storage: LocalStorage
    name: str
    values: ValueReader


@dataclass(frozen=True, eq=False)
class Source:
    """What entries read from.

    Attributes:
        files: all shard files of the checkpoint.
        places: where each of them is read, in the same order.
    """

    files: Sequence[ShardFile]
    places: Sequence[Place]

    @cached_property
    def sizes(self) -> Int64s:
        """Bytes of each file on disk, (files + 1,); -1 for one that is not there, and last."""
        return np.array([*(-1 if f.size is None else f.size for f in self.files), -1], np.int64)


class TensorEntry:
    """A tensor of a checkpoint; reads bytes only when it is sliced.

    Args:
        fqn: its key in the checkpoint.
        stored: what the metadata says of it.
        chunks: its chunks, with file numbers of the whole checkpoint.
        source: where to read.
    """

    kind = "tensor"

    def __init__(self, fqn: str, stored: StoredTensor, chunks: ChunkTable, source: Source) -> None:
        self.fqn = fqn
        self.stored = stored
        self.chunks = chunks
        self._source = source

    def __repr__(self) -> str:
        return (
            f"TensorEntry({self.fqn!r}, {self.dtype}{list(self.shape)}, {len(self.chunks)} chunks)"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements per dimension."""
        return self.stored.shape

    @property
    def dtype(self) -> str:
        """Torch's name without `torch.`, such as `bfloat16`."""
        return self.stored.dtype

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return dtypes.itemsize(self.dtype)

    @property
    def numel(self) -> int:
        """Elements of the whole tensor."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor's numbers, without the archives around them."""
        return self.numel * self.itemsize

    @property
    def num_chunks(self) -> int:
        """Number of chunks."""
        return len(self.chunks)

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """The ranks whose files hold a part of it, ascending."""
        numbers = distinct(self.chunks.file)
        found = {self._source.files[n].rank for n in numbers.tolist() if n >= 0}
        return tuple(sorted(rank for rank in found if rank is not None))

    @cached_property
    def gap(self) -> str:
        """Which part of it is not in the checkpoint, a clause; empty where all is, nothing read.

        Told from sizes alone: a file that is not there or too short, a chunk that no item holds,
        chunks that are fewer elements than the tensor.
        """
        chunks = self.chunks
        unplaced = int((chunks.file < 0).sum())
        if unplaced:
            return f"no storage item holds {unplaced:,} of its {len(chunks):,} chunks"
        for number in distinct(chunks.file).tolist():
            rows = chunks.file == number
            size = int(self._source.sizes[number])
            name = quote(self._source.files[number].name)
            if size < 0:
                return f"{name} is not here"
            if int((chunks.offset[rows] + chunks.length[rows]).max()) > size:
                return f"{name} is truncated"
        if chunks.sizes.shape[1:] == (len(self.shape),) and min(self.shape, default=0) >= 0:
            held = int(chunks.sizes.prod(axis=1).sum()) if len(chunks) else 0
            if held < self.numel:
                return f"its chunks hold {held:,} of {self.numel:,} elements"
        return ""

    def checksums(self) -> tuple[object, ...] | None:
        """The recorded CRC-32 of each chunk's numbers beside its place, whatever their order.

        Reads some KiB a chunk and no number. None where torch recorded none, or where the form has
        none; two tensors of one dtype whose checksums are equal hold the same numbers.

        Raises:
            MalformedItem, MissingFile, TruncatedFile: an item is not what the metadata says.
        """
        if self.stored.encoding != "torch" or self.stored.transforms or not len(self.chunks):
            return None
        found = set()
        for row, chunk in enumerate(self.chunks):
            source = self.chunk_source(row)
            item = open_item(
                self.storage_of(row),
                source.file,
                source.offset,
                source.length,
                subject=source.subject,
            )
            data = [r for name, r in item.records.items() if name.startswith("data/")]
            if len(data) != 1 or data[0].crc32 is None:
                return None
            found.add((chunk.offsets, chunk.sizes, data[0].size, data[0].crc32))
        return (self.dtype, *sorted(found))

    def chunk_ranks(self) -> Int64s:
        """The rank whose file holds each chunk, (n,) as `chunks`; 0 where no name tells."""
        ranks = [file.rank or 0 for file in self._source.files]
        return np.array([ranks[n] if n >= 0 else 0 for n in self.chunks.file.tolist()], np.int64)

    def shard_file(self, row: int) -> ShardFile | None:
        """The file that holds chunk number `row`; None where no storage item does."""
        number = int(self.chunks.file[row])
        return self._source.files[number] if number >= 0 else None

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a slice: ints, slices, `...` as in NumPy; only the bytes it needs are read.

        Raises:
            IndexError: more indices than dimensions, or out of bounds.
            MalformedItem: an item is not what the metadata says, or no chunk holds an element.
            MalformedMetadata: a negative size, or chunks of other dimensions than the tensor's.
            LimitExceeded: the slice does not fit into memory.
            MissingFile, TruncatedFile: a shard file is not there or too short.
        """
        starts, stops, view = boxes.resolve(key, self.shape)
        box: NDArray[Any] = self._read(starts, stops)
        part: NDArray[Any] = box[view]
        return part

    @property
    def entry(self) -> TensorEntry:
        """Itself: as a source of a result's entry it has items that can be copied."""
        return self

    def boxes(self, starts: Point, stops: Point) -> tuple[Box, ...]:
        """The box of itself; see `source.TensorSource`."""
        return ((self, starts, stops),)

    def read(self, starts: Point, stops: Point, dtype: str, fetch: Fetch) -> NDArray[Any]:
        """Read a box by `fetch`, in its own dtype; see `source.TensorSource`."""
        return fetch(self, starts, stops)

    def read_box(self, starts: Point, stops: Point) -> NDArray[Any]:
        """Read the box [starts, stops); errors as `__getitem__`."""
        return self._read(starts, stops)

    def numpy(self) -> NDArray[Any]:
        """Read the whole tensor, of `shape`, in NumPy's or ml_dtypes' type for `dtype`."""
        return self._read((0,) * len(self.shape), self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole tensor, as `np.asarray(entry)` asks for it.

        Raises:
            ValueError: `copy` is False, and what lies on disk cannot be had without a copy.
        """
        if copy is False:
            raise ValueError("a tensor on disk cannot be an array without a copy")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def torch(self) -> torch.Tensor:
        """Read the whole tensor as a `torch.Tensor` (imports torch)."""
        from dcpctl.torch_bridge import as_tensor

        return as_tensor(self.numpy(), self.dtype)

    def blocks(self, max_bytes: int) -> Iterator[NDArray[Any]]:
        """Read every element once, in blocks of at most `max_bytes` bytes (at least one element).

        Chunks come in metadata order; copies of a chunk are read once.
        """
        seen: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
        most = max(1, max_bytes // self.itemsize)
        for row, chunk in enumerate(self.chunks):
            if (chunk.offsets, chunk.sizes) in seen or 0 in chunk.sizes:
                continue
            seen.add((chunk.offsets, chunk.sizes))
            for starts, stops in boxes.split(chunk.sizes, most):
                yield self.read_chunk(row, starts, stops)

    def inner_blocks(self, max_bytes: int) -> Iterator[NDArray[Any]]:
        """Read the float tensors inside a packed one, in blocks as `blocks` does.

        Raises:
            As `packed` and `formats.tensor_read.read_box`.
        """
        for row in range(len(self.chunks)):
            item, held = open_held(self.storage_of(row), self.chunk_source(row))
            for ref in inner_tensors(held).values() if isinstance(held, PackedTensor) else ():
                if dtypes.info(ref.dtype).kind in ("float", "complex"):
                    most = max(1, max_bytes // dtypes.itemsize(ref.dtype))
                    for starts, stops in boxes.split(ref.shape, most):
                        yield read_box(item, ref, starts, stops)

    def read_chunk(self, row: int, starts: tuple[int, ...], stops: tuple[int, ...]) -> NDArray[Any]:
        """Read the box [starts, stops) of chunk number `row`; indices count in the chunk.

        Raises:
            As `chunk_source` and `formats.chunk_read.read_chunk`.
        """
        source = self.chunk_source(row)
        return read_chunk(self.storage_of(row), source, starts, stops)

    def packed(self, row: int = 0) -> PackedTensor | None:
        """What chunk number `row` holds, if that is a tensor of a subclass or packed, else None.

        Raises:
            As `chunk_source` and `TorchItem.held`.
        """
        if self.stored.encoding != "torch":
            return None
        held = open_held(self.storage_of(row), self.chunk_source(row))[1]
        return held if isinstance(held, PackedTensor) else None

    def chunk_source(self, row: int) -> ChunkSource:
        """Where chunk number `row` lies, in the form that `formats.chunk_read` takes.

        Raises:
            MalformedMetadata: the chunk has other dimensions than the tensor, or a negative size.
            MissingFile: the metadata places no storage item under the chunk.
        """
        chunk = self.chunks[row]
        if len(chunk.sizes) != len(self.shape) or min(chunk.sizes, default=0) < 0:
            raise MalformedMetadata(
                f"{quote(self.fqn)} of shape {list(self.shape)} has a chunk of sizes "
                f"{list(chunk.sizes)}"
            )
        if chunk.file < 0:
            raise MissingFile(
                f"{quote(self.fqn)}: no storage item holds the chunk at {list(chunk.offsets)}"
            )
        return ChunkSource(
            file=self._source.places[chunk.file].name,
            offset=chunk.offset,
            length=chunk.length,
            dtype=self.dtype,
            shape=chunk.sizes,
            encoding=self.stored.encoding,
            transforms=self.stored.transforms,
            subject=quote(self.fqn),
        )

    def storage_of(self, row: int) -> LocalStorage:
        """The directory of chunk number `row`, whose file `chunk_source` has seen to be there."""
        return self._source.places[int(self.chunks.file[row])].storage

    def _read(self, starts: tuple[int, ...], stops: tuple[int, ...]) -> NDArray[Any]:
        self.check_shape()
        shape = tuple(stop - start for start, stop in zip(starts, stops, strict=True))
        wanted = math.prod(shape)
        rows = (
            boxes.overlapping(self.chunks, starts, stops) if len(self.chunks) else np.zeros(0, int)
        )
        # Before anything is allocated: a shape that no file can fill must not cost memory.
        if self._stored_bytes(rows) < wanted * self.itemsize:
            self._check_files(rows)
            self._refuse_hole(starts, stops)
        result = self._empty(shape)
        if not wanted:
            return result
        read: list[tuple[slice, ...]] = []
        done: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
        for row in rows.tolist():
            chunk = self.chunks[row]
            if (chunk.offsets, chunk.sizes) in done:
                continue
            done.add((chunk.offsets, chunk.sizes))
            low, high = boxes.intersect(chunk.offsets, chunk.sizes, starts, stops)
            local = [a - o for a, o in zip(low, chunk.offsets, strict=True)]
            until = [b - o for b, o in zip(high, chunk.offsets, strict=True)]
            part = self.read_chunk(row, tuple(local), tuple(until))
            place = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, starts, strict=True))
            result[place] = part
            read.append(place)
        if not boxes.cover(shape, read):
            self._refuse_hole(starts, stops)
        return result

    def check_size(self) -> None:
        """See that the tensor can be laid out anew: its bytes can be numbered in a file.

        Raises:
            MalformedMetadata: 2^63 bytes or more; as `check_shape`.
        """
        self.check_shape()
        if self.nbytes >= 1 << 63:
            raise MalformedMetadata(f"{quote(self.fqn)} has the shape {list(self.shape)}")

    def check_shape(self) -> None:
        """See that the shape is one, and that the chunks have as many dimensions.

        Raises:
            MalformedMetadata: a negative size, other dimensions.
        """
        dims = len(self.shape)
        if min(self.shape, default=0) < 0:
            raise MalformedMetadata(f"{quote(self.fqn)} has the shape {list(self.shape)}")
        if len(self.chunks) and self.chunks.offsets.shape[1] != dims:
            raise MalformedMetadata(
                f"{quote(self.fqn)} has {dims} dimensions, its chunks have "
                f"{self.chunks.offsets.shape[1]}"
            )

    def _empty(self, shape: tuple[int, ...]) -> NDArray[Any]:
        try:
            return np.empty(shape, dtype=dtypes.numpy_dtype(self.dtype))
        except (ValueError, MemoryError):
            raise LimitExceeded(
                f"{quote(self.fqn)}: no memory holds an array of shape {list(shape)}",
                hint="read it by slices or blocks",
            ) from None

    def _stored_bytes(self, rows: NDArray[Any]) -> int:
        """The most bytes of numbers that the items of these chunks can hold."""
        if self.stored.transforms:
            # What the items take on disk says little; each is decompressed up to this limit.
            return sum(
                min(math.prod(sizes) * self.itemsize, limits.DECOMPRESSED_BYTES)
                for sizes in self.chunks.sizes[rows].tolist()
            )
        return sum(
            min(length, self._source.files[file].size or 0)
            for file, length in zip(
                self.chunks.file[rows].tolist(), self.chunks.length[rows].tolist(), strict=True
            )
            if file >= 0
        )

    def _check_files(self, rows: NDArray[Any]) -> None:
        """Raise what reading the last byte of each of these chunks' items raises."""
        for row in rows.tolist():
            source = self.chunk_source(row)
            self.storage_of(row).read(source.file, source.offset + source.length, 0)

    def _refuse_hole(self, starts: tuple[int, ...], stops: tuple[int, ...]) -> NoReturn:
        raise MalformedItem(
            f"{quote(self.fqn)}: its chunks do not cover [{boxes.text(starts, stops)}]",
            hint="dcpctl check says which elements no chunk holds",
        )


class BytesEntry:
    """An object of a checkpoint that is no tensor; decoded when `value` is first asked for.

    Args:
        fqn: its key in the checkpoint.
        stored: what the metadata says of it.
        file: number of its shard file in the checkpoint; -1 if there is none.
        source: where to read.
    """

    kind = "bytes"

    def __init__(self, fqn: str, stored: StoredBytes, file: int, source: Source) -> None:
        self.fqn = fqn
        self.stored = stored
        self.file = file
        self.offset = stored.offset
        self.length = stored.length
        self._source = source
        self._failure: DcpctlError | None = None

    def __repr__(self) -> str:
        return f"BytesEntry({self.fqn!r}, {self.length} bytes)"

    @property
    def entry(self) -> BytesEntry:
        """Itself: as a source of a result's entry it has an item that can be copied."""
        return self

    @property
    def ranks(self) -> tuple[int, ...]:
        """The rank whose file holds it."""
        rank = self._source.files[self.file].rank if self.file >= 0 else None
        return () if rank is None else (rank,)

    @property
    def gap(self) -> str:
        """Why its bytes are not in the checkpoint, a clause; empty where they are."""
        if self.file < 0:
            return "no storage item holds it"
        size = int(self._source.sizes[self.file])
        name = quote(self._source.files[self.file].name)
        if size < 0:
            return f"{name} is not here"
        return f"{name} is truncated" if self.offset + self.length > size else ""

    @property
    def value(self) -> Any:
        """The decoded object: plain Python values, `TensorValue`, stand-ins or `Opaque`.

        Raises:
            MalformedItem, MalformedPickle, LimitExceeded: the item does not decode.
            MissingFile, TruncatedFile: its shard file is not there or too short.
        """
        if self._failure is not None:
            raise self._failure
        try:
            return self._decoded
        except DcpctlError as error:
            # A hostile value that took seconds to refuse is not decoded a second time.
            self._failure = error
            raise

    @cached_property
    def _decoded(self) -> Any:
        if self.file < 0:
            raise MissingFile(f"{quote(self.fqn)}: no storage item holds it")
        place = self._source.places[self.file]
        if self.stored.encoding == "pickle":
            return place.values.read_pickle(
                place.name, self.offset, self.length, subject=quote(self.fqn)
            )
        return place.values.read(
            place.name,
            self.offset,
            self.length,
            transforms=self.stored.transforms,
            subject=quote(self.fqn),
        )

    @property
    def type(self) -> str:
        """The object's type as `module.Class`: `builtins.float`, `torch.Size`, ..."""
        return type_name(self.value)
