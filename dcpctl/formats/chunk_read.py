"""A box of one chunk of a tensor entry, whatever its storage item's encoding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from dcpctl.errors import MalformedItem, UnknownForm, quote
from dcpctl.formats import dtypes
from dcpctl.formats.pickles.standins import PackedTensor, TensorRef
from dcpctl.formats.tensor_read import read_box, read_raw_box
from dcpctl.formats.torch_zip import TorchItem, open_item
from dcpctl.formats.transforms import decode_item
from dcpctl.storage.base import Storage


@dataclass(frozen=True, slots=True)
class ChunkSource:
    """Where one chunk lies and what the metadata says of it.

    Attributes:
        file: shard file, relative.
        offset: first byte of the storage item.
        length: bytes of the storage item as they lie on disk.
        dtype: torch's name.
        shape: the chunk's sizes.
        encoding: `torch` (an archive of torch.save) or `raw` (the bare contiguous numbers).
        transforms: the item's `transform_descriptors`.
        subject: the chunk's name for messages, already quoted.
    """

    file: str
    offset: int
    length: int
    dtype: str
    shape: tuple[int, ...]
    encoding: str
    transforms: tuple[str, ...]
    subject: str

    @property
    def nbytes(self) -> int:
        """Bytes of the chunk's numbers."""
        return math.prod(self.shape) * dtypes.itemsize(self.dtype)


def open_chunk(storage: Storage, chunk: ChunkSource) -> tuple[TorchItem, TensorRef]:
    """Open a chunk of encoding `torch` and see that it holds what the metadata says.

    Raises:
        MalformedItem: the tensor in the item has another dtype or shape.
        As `open_item` and `TorchItem.tensor`.
    """
    item = _open(storage, chunk)
    ref = item.tensor()
    if ref.dtype != chunk.dtype or ref.shape != tuple(chunk.shape):
        raise MalformedItem(
            f"{chunk.subject}: the item holds {ref.dtype}{list(ref.shape)}, "
            f"the metadata says {chunk.dtype}{list(chunk.shape)}"
        )
    return item, ref


def open_held(storage: Storage, chunk: ChunkSource) -> tuple[TorchItem, TensorRef | PackedTensor]:
    """Open a chunk of encoding `torch`, whatever tensor it holds.

    Raises:
        As `open_item` and `TorchItem.held`.
    """
    item = _open(storage, chunk)
    return item, item.held()


def _open(storage: Storage, chunk: ChunkSource) -> TorchItem:
    return open_item(
        storage,
        chunk.file,
        chunk.offset,
        chunk.length,
        transforms=chunk.transforms,
        subject=chunk.subject,
        payload_bytes=chunk.nbytes,
    )


def locate_raw(storage: Storage, chunk: ChunkSource) -> tuple[Storage, str, int]:
    """Find the bare numbers of a chunk of encoding `raw`, decompressed where it is compressed.

    Returns:
        The storage, the name in it and the byte offset at which the numbers begin.

    Raises:
        MalformedItem: there are more or fewer bytes than dtype and shape take.
        As `transforms.decode_item`.
    """
    file, offset, length = chunk.file, chunk.offset, chunk.length
    if chunk.transforms:
        storage = decode_item(
            storage,
            file,
            offset,
            length,
            transforms=chunk.transforms,
            subject=chunk.subject,
            limit=chunk.nbytes,
        )
        file, offset, length = "", 0, storage.size("")
    if length != chunk.nbytes:
        raise MalformedItem(
            f"{chunk.subject}: {length} bytes, but {chunk.dtype}{list(chunk.shape)} "
            f"takes {chunk.nbytes}"
        )
    return storage, file, offset


def read_chunk(
    storage: Storage,
    chunk: ChunkSource,
    starts: Sequence[int] | None = None,
    stops: Sequence[int] | None = None,
) -> NDArray[Any]:
    """Read the box [starts, stops) of a chunk, by default all of it; indices count in the chunk.

    Reads the bytes of its rows, and of a torch.save archive 8 KiB more.

    Returns:
        A new contiguous array of shape stops - starts in `dtypes.numpy_dtype(chunk.dtype)`.

    Raises:
        MalformedItem: the item is not what the metadata says.
        UnknownForm: unknown dtype, encoding or transform.
        ValueError: the box does not lie in the chunk.
        As `Storage.read`.
    """
    if chunk.encoding == "torch":
        return read_box(*open_chunk(storage, chunk), starts, stops)
    if chunk.encoding != "raw":
        raise UnknownForm(f"{chunk.subject}: unknown encoding {quote(chunk.encoding)}")
    storage, file, offset = locate_raw(storage, chunk)
    return read_raw_box(storage, file, offset, chunk.dtype, chunk.shape, starts, stops)
