"""What a format reader hands to the model: entries, chunk tables and what did not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from dcpctl.formats.form import Form

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]


class Chunk(NamedTuple):
    """One row of a `ChunkTable`.

    Attributes:
        offsets: first element of the chunk per dimension.
        sizes: elements of the chunk per dimension.
        file: index into `StoredCheckpoint.files`; -1 if no storage item holds the chunk.
        offset: byte offset of the storage item in its file.
        length: bytes of the storage item.
    """

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class ChunkTable:
    """The n chunks of a d-dimensional tensor, in metadata order, one column a field.

    Attributes:
        offsets: (n, d) first element of each chunk.
        sizes: (n, d) elements of each chunk.
        file: (n,) index into `StoredCheckpoint.files`; -1 if no storage item holds the chunk.
        offset: (n,) byte offset of the storage item in its file.
        length: (n,) bytes of the storage item.
    """

    offsets: Int64s
    sizes: Int64s
    file: Int32s
    offset: Int64s
    length: Int64s

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, row: int) -> Chunk: ...

    @overload
    def __getitem__(self, row: slice) -> ChunkTable: ...

    def __getitem__(self, row: int | slice) -> Chunk | ChunkTable:
        if isinstance(row, slice):
            boxes = self.offsets[row], self.sizes[row]
            return ChunkTable(*boxes, self.file[row], self.offset[row], self.length[row])
        return Chunk(
            tuple(self.offsets[row].tolist()),
            tuple(self.sizes[row].tolist()),
            int(self.file[row]),
            int(self.offset[row]),
            int(self.length[row]),
        )

    def __iter__(self) -> Iterator[Chunk]:
        columns = (self.offsets, self.sizes, self.file, self.offset, self.length)
        for offsets, sizes, file, offset, length in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            yield Chunk(tuple(offsets), tuple(sizes), file, offset, length)


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A tensor entry as a checkpoint's metadata describes it.

    Attributes:
        fqn: flattened key.
        shape: elements per dimension of the whole tensor.
        dtype: torch's name without `torch.`.
        chunks: where its parts lie.
        encoding: `torch` (each item is a torch.save ZIP) or `raw` (bare contiguous bytes).
        requires_grad: as saved.
        layout: `strided` in all that DCP writes.
        memory_format: 0 contiguous, 1 channels_last, 2 preserve (DCP's own numbering).
        pin_memory: as saved.
        strides: the saved shard's strides (2.15), else None.
        transforms: stream transforms of the items, outermost last, such as `stream.zstd/1`.
        pickled_fields: number of fields that the `TensorProperties` pickle held; 0 if none was.
    """

    fqn: str
    shape: tuple[int, ...]
    dtype: str
    chunks: ChunkTable
    encoding: str = "torch"
    requires_grad: bool = False
    layout: str = "strided"
    memory_format: int = 0
    pin_memory: bool = False
    strides: tuple[int, ...] | None = None
    transforms: tuple[str, ...] = ()
    pickled_fields: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class StoredBytes:
    """A bytes entry: any object that is no tensor, pickled.

    Attributes:
        fqn: flattened key.
        file: index into `StoredCheckpoint.files`; -1 if no storage item holds it.
        offset: byte offset of the storage item in its file.
        length: bytes of the storage item.
        transforms: stream transforms of the item.
        encoding: `torch` (a torch.save ZIP) or `pickle` (a bare pickle).
    """

    fqn: str
    file: int
    offset: int
    length: int
    transforms: tuple[str, ...] = ()
    encoding: str = "torch"


@dataclass(frozen=True, slots=True)
class Orphan:
    """A storage item that belongs to no chunk or entry.

    Attributes:
        fqn: the key it was stored under.
        offsets: the chunk offsets it was stored under; None for a bytes entry.
        file: index into `StoredCheckpoint.files`.
        offset: byte offset in the file.
        length: bytes.
    """

    fqn: str
    offsets: tuple[int, ...] | None
    file: int
    offset: int
    length: int


@dataclass(slots=True, eq=False)
class StoredCheckpoint:
    """Everything that one checkpoint directory's metadata says.

    Attributes:
        form: the on-disk form, as its reader has it.
        entries: FQN -> entry, in metadata order.
        files: paths of the shard files, relative to the directory.
        planner_data: FQN -> object path, or None where the release writes none (1.13).
        fields: the other attributes of the metadata, decoded (`version`, `storage_meta`, ...).
        orphans: storage items that no entry claims.
        duplicates: storage items whose index a later one has too, which torch reads instead.
        replicas: further copies of chunks and entries, which each rank wrote for itself.
        globals: every `module.name` that the metadata pickle refers to.
        protocol: pickle protocol of the metadata, 0 where it is no pickle.
        metadata_file: the file that the description was read from.
        metadata_bytes: its size.
    """

    form: Form
    entries: dict[str, StoredTensor | StoredBytes] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    planner_data: dict[str, tuple[Any, ...]] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    orphans: list[Orphan] = field(default_factory=list)
    duplicates: list[Orphan] = field(default_factory=list)
    replicas: list[Orphan] = field(default_factory=list)
    globals: frozenset[str] = frozenset()
    protocol: int = 0
    metadata_file: str = ""
    metadata_bytes: int = 0
