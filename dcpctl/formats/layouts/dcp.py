"""`.metadata` beside `__{rank}_{n}.distcp`: what DCP writes by default.

`SerializationFormat.SAFETENSORS` (2.8) keeps the `.metadata` but puts one safetensors blob in each
shard file; the item offsets then say where the blob begins, not where the tensor does, so they are
looked up in the blobs' headers. Stock torch reads no such checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from dcpctl.errors import MalformedMetadata, quote
from dcpctl.formats.dtypes import DTYPES
from dcpctl.formats.form import Form
from dcpctl.formats.layouts import bytecheckpoint
from dcpctl.formats.metadata import read_metadata
from dcpctl.formats.records import ChunkTable, StoredCheckpoint, StoredTensor
from dcpctl.formats.safetensors import SafetensorsHeader, read_header
from dcpctl.storage.local import LocalStorage

METADATA = ".metadata"
OVER_SAFETENSORS = Form(
    "dcp-safetensors",
    "DCP over safetensors",
    pickled=True,
    safetensors=True,
    first=(2, 8),
    shows="safetensors in the shard files",
    unread="SerializationFormat.SAFETENSORS wrote safetensors into the shard files, which torch's "
    "FileSystemReader cannot read",
)


def recognises(names: Mapping[str, int]) -> bool:
    """True if there is a `.metadata`."""
    return METADATA in names


def read(storage: LocalStorage) -> StoredCheckpoint:
    """Read `.metadata`; see `formats.metadata.read_metadata` for the errors."""
    stored = read_metadata(storage, METADATA)
    if bytecheckpoint.recognises(stored):
        bytecheckpoint.place(stored)
    elif _is_safetensors(stored):
        _place_in_blobs(stored, storage)
        stored.form = OVER_SAFETENSORS
    return stored


def _is_safetensors(stored: StoredCheckpoint) -> bool:
    """Tell by the item lengths: bare numbers, where a torch.save archive is a kilobyte longer."""
    tensors = [e for e in stored.entries.values() if isinstance(e, StoredTensor) and len(e.chunks)]
    if not tensors or any(entry.transforms for entry in tensors):
        return False
    return all(
        entry.dtype in DTYPES
        and entry.chunks.length[0] == _numel(entry.chunks, 0) * DTYPES[entry.dtype].itemsize
        for entry in tensors
    )


def _numel(chunks: ChunkTable, row: int) -> int:
    return int(np.prod(chunks.sizes[row]))


def _place_in_blobs(stored: StoredCheckpoint, storage: LocalStorage) -> None:
    headers: dict[tuple[int, int], SafetensorsHeader] = {}
    for fqn, entry in stored.entries.items():
        if not isinstance(entry, StoredTensor):
            continue
        chunks = entry.chunks
        offset, length = chunks.offset.copy(), chunks.length.copy()
        for row, (file, base) in enumerate(
            zip(chunks.file.tolist(), chunks.offset.tolist(), strict=True)
        ):
            if file < 0:
                continue
            header = headers.get((file, base))
            if header is None:
                name = stored.files[file]
                header = read_header(storage, name, offset=base, subject=quote(name))
                headers[(file, base)] = header
            held = header.tensors.get(fqn)
            if held is None:
                raise MalformedMetadata(
                    f"{quote(stored.files[file])} has no tensor {quote(fqn)}, "
                    f"which {METADATA} places there"
                )
            offset[row], length[row] = held.offset, held.length
        placed = ChunkTable(chunks.offsets, chunks.sizes, chunks.file, offset, length)
        stored.entries[fqn] = dataclasses.replace(entry, chunks=placed, encoding="raw")
