"""A small healthy checkpoint as a draft, which corruptors spoil before or after it is written."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hostile import fake_torch as ft
from tests.test_formats.archives import Rec, Zip, tensor_pickle, tensor_zip

#: `torch.save(8500)`'s data.pkl.
STEP = b"\x80\x02M\x34\x21."


def numbers(count: int) -> bytes:
    """`count` float32: 0.0, 1.0, ..."""
    return struct.pack(f"<{count}f", *range(count))


def tensor_item(*shape: int) -> bytes:
    """The storage item of a float32 tensor."""
    count = 1
    for size in shape:
        count *= size
    return tensor_zip(tensor_pickle(shape, numel=count), numbers(count)).build()


def value_item(pickle: bytes) -> bytes:
    """The storage item of a bytes entry with this data.pkl."""
    return Zip(
        [Rec("data.pkl", pickle), Rec("byteorder", b"little"), Rec("version", b"3\n")]
    ).build()


@dataclass
class Draft:
    """Entries and shard files; `metadata` and `files` may be changed before `write`."""

    entries: dict[str, Any] = field(default_factory=dict)
    storage: dict[Any, Any] = field(default_factory=dict)
    files: dict[str, bytearray] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)

    def put(self, file: str, item: bytes) -> Any:
        """Append an item to a shard file; return its `_StorageInfo`."""
        held = self.files.setdefault(file, bytearray())
        offset = len(held)
        held += item
        return ft.StorageInfo(relative_path=file, offset=offset, length=len(item))

    def tensor(self, fqn: str, shape: tuple[int, ...], rows: list[int] | None = None) -> None:
        """Add a float32 tensor, of which rank k holds `rows[k]` rows."""
        chunks = []
        start = 0
        for rank, count in enumerate(rows or [shape[0] if shape else 1]):
            sizes = (count, *shape[1:]) if shape else ()
            offsets = (start, *[0] * (len(shape) - 1)) if shape else ()
            chunks.append(chunk(offsets, sizes))
            index = ft.MetadataIndex(fqn=fqn, offset=chunks[-1].offsets, index=rank)
            self.storage[index] = self.put(f"__{rank}_0.distcp", tensor_item(*sizes))
            start += count
        self.entries[fqn] = ft.TensorStorageMetadata(
            properties=ft.TensorProperties(dtype=ft.dtype("float32")),
            size=ft.Size(shape),
            chunks=chunks,
        )

    def value(self, fqn: str, pickle: bytes, rank: int = 0) -> None:
        """Add a bytes entry."""
        self.entries[fqn] = ft.BytesStorageMetadata()
        index = ft.MetadataIndex(fqn=fqn, index=None)
        self.storage[index] = self.put(f"__{rank}_0.distcp", value_item(pickle))

    def item(self, fqn: str, row: int = 0) -> Any:
        """The `_StorageInfo` of a chunk or bytes entry."""
        return [info for index, info in self.storage.items() if index.fqn == fqn][row]

    def replace_item(self, fqn: str, item: bytes, row: int = 0) -> None:
        """Put other bytes where an item was: at the end of its file."""
        info = self.item(fqn, row)
        made = self.put(info.relative_path, item)
        info.offset, info.length = made.offset, made.length

    def metadata(self) -> Any:
        """The `Metadata` object."""
        return ft.Metadata(
            state_dict_metadata=self.entries,
            planner_data={fqn: (fqn,) for fqn in self.entries if isinstance(fqn, str)},
            storage_data=self.storage,
            **self.fields,
        )

    def write(self, directory: Path, *, protocol: int = 4, metadata: bytes | None = None) -> None:
        """Write the directory; `metadata` replaces the pickle."""
        directory.mkdir(parents=True, exist_ok=True)
        data = ft.dumps(self.metadata(), protocol) if metadata is None else metadata
        (directory / ".metadata").write_bytes(data)
        for name, content in self.files.items():
            (directory / name).write_bytes(content)


def chunk(offsets: tuple[int, ...], sizes: tuple[int, ...]) -> Any:
    """A `ChunkStorageMetadata`."""
    return ft.ChunkStorageMetadata(offsets=ft.Size(offsets), sizes=ft.Size(sizes))


def healthy() -> Draft:
    """Two tensors on two ranks, one of them in two chunks, and a bytes entry."""
    draft = Draft()
    draft.tensor("model.weight", (4, 3), [2, 2])
    draft.tensor("model.bias", (3,))
    draft.value("step", STEP)
    return draft
