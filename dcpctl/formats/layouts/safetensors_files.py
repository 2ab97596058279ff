"""Directories of safetensors files, without `.metadata`.

Two forms: DCP's shards (`HuggingFaceStorageWriter(save_distributed=True)`, 2.8), where each
header's `DCP_SHARDING_INFO` says where a shard lies in its tensor, and whole tensors as Hugging
Face keeps them, in one file or in several with a `model.safetensors.index.json`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dcpctl import limits
from dcpctl.errors import MalformedMetadata, quote
from dcpctl.formats.form import Form
from dcpctl.formats.records import ChunkTable, StoredCheckpoint, StoredTensor
from dcpctl.formats.safetensors import SafetensorsTensor, read_header, read_index
from dcpctl.storage.local import LocalStorage

_SUFFIX = ".safetensors"
_INDEX = ".safetensors.index.json"
CONSOLIDATED = Form("safetensors", "safetensors", safetensors=True, placed=False, read_from=(2, 7))
SHARDED = Form(
    "safetensors-sharded",
    "DCP-sharded safetensors",
    safetensors=True,
    first=(2, 8),
    shows="DCP_SHARDING_INFO in the headers",
    read_from=(2, 7),
)
Piece = tuple[SafetensorsTensor, tuple[int, ...], int]


def recognises(names: Mapping[str, int]) -> bool:
    """True if there is a `*.safetensors`."""
    return any(name.endswith(_SUFFIX) for name in names)


def read(storage: LocalStorage) -> StoredCheckpoint:
    """Read every header, and the index where there is one.

    Raises:
        MalformedMetadata: a damaged header; files that disagree on a tensor; an index that names a
            tensor which its file lacks.
        As `formats.safetensors.read_header`.
    """
    names = storage.names()
    files = [name for name in names if name.endswith(_SUFFIX)]
    stored = StoredCheckpoint(CONSOLIDATED, files=files)
    pieces: dict[str, list[Piece]] = {}
    for number, name in enumerate(files):
        header = read_header(storage, name, subject=quote(name))
        if header.saved_offsets is not None:
            stored.form = SHARDED
        for key, value in header.metadata.items():
            if key != "DCP_SHARDING_INFO":
                stored.fields.setdefault(key, value)
        stored.metadata_bytes += header.data_offset
        for tensor in header.tensors.values():
            offsets = (header.saved_offsets or {}).get(tensor.name, (0,) * len(tensor.shape))
            pieces.setdefault(tensor.name, []).append((tensor, offsets, number))
    for fqn, parts in pieces.items():
        stored.entries[fqn] = _entry(fqn, parts, stored)
    stored.metadata_file = files[0]
    for name in names:
        if name.endswith(_INDEX):
            _check_index(storage, name, pieces, files)
            stored.metadata_file = name
    return stored


def _entry(fqn: str, parts: list[Piece], stored: StoredCheckpoint) -> StoredTensor:
    first = parts[0][0]
    for tensor, _offsets, number in parts:
        if tensor.dtype != first.dtype or len(tensor.shape) != len(first.shape):
            raise MalformedMetadata(
                f"{quote(stored.files[number])}: {quote(fqn)} is {tensor.dtype} with "
                f"{len(tensor.shape)} dims, in other files {first.dtype} with {len(first.shape)}"
            )
    if not stored.form.placed and len(parts) > 1:
        raise MalformedMetadata(
            f"{quote(fqn)} is in {len(parts)} files, and none says it is a shard"
        )
    dims = len(first.shape)
    offsets = np.array([part[1] for part in parts], dtype=np.int64).reshape(len(parts), dims)
    sizes = np.array([part[0].shape for part in parts], dtype=np.int64).reshape(len(parts), dims)
    chunks = ChunkTable(
        offsets,
        sizes,
        np.array([part[2] for part in parts], dtype=np.int32),
        np.array([part[0].offset for part in parts], dtype=np.int64),
        np.array([part[0].length for part in parts], dtype=np.int64),
    )
    # No file says how large the whole tensor is; its shards reach to its end.
    if (offsets > np.iinfo(np.int64).max - sizes).any():
        raise MalformedMetadata(f"{quote(fqn)}: a shard that ends beyond 2^63 elements")
    shape = tuple((offsets + sizes).max(axis=0).tolist())
    return StoredTensor(fqn, shape, first.dtype, chunks, encoding="raw")


def _check_index(
    storage: LocalStorage, name: str, pieces: dict[str, list[Piece]], files: list[str]
) -> None:
    weights = read_index(storage.read_all(name, limits.SAFETENSORS_HEADER_BYTES), quote(name))
    lost = [
        fqn
        for fqn, file in weights.items()
        if file not in (files[number] for _, _, number in pieces.get(fqn, ()))
    ]
    if lost:
        raise MalformedMetadata(
            f"{quote(name)} places {quote(lost[0])} in {quote(weights[lost[0]])}, which lacks it"
            + (f" ({len(lost)} such tensors)" if len(lost) > 1 else ""),
            hint="a shard is missing or of another save",
        )
