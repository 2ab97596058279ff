"""`__{rank}.metadata` beside `__{rank}_{n}.distcp`: `use_collectives=False` (2.9).

Each rank describes what it holds itself: its own chunks, and a whole copy of whatever is
replicated. Stock torch has no reader that joins them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

import numpy as np

from dcpctl.errors import MalformedMetadata, MissingFile, quote
from dcpctl.formats.form import Form
from dcpctl.formats.metadata import read_metadata
from dcpctl.formats.records import (
    ChunkTable,
    Orphan,
    StoredBytes,
    StoredCheckpoint,
    StoredTensor,
)
from dcpctl.storage.local import LocalStorage

_NAME = re.compile(r"__(\d+)\.metadata")

PER_RANK = Form(
    "dcp-per-rank",
    "DCP without collectives, metadata per rank",
    pickled=True,
    per_rank=True,
    checksums=True,
    first=(2, 9),
    shows="metadata per rank",
    unread="use_collectives=False left one metadata file per rank, which no torch release joins; "
    "each loads alone, and holds one rank's chunks",
)


def recognises(names: Mapping[str, int]) -> bool:
    """True if there is a `__{rank}.metadata`."""
    return any(_NAME.fullmatch(name) for name in names)


def ranks_of(names: Iterable[str]) -> tuple[int, ...]:
    """The ranks that have metadata among these files, ascending."""
    found = (_NAME.fullmatch(name) for name in names)
    return tuple(sorted(int(match[1]) for match in found if match is not None))


def read(storage: LocalStorage, first: int | None = None) -> StoredCheckpoint:
    """Read every rank's metadata in rank order and join them.

    Args:
        storage: the directory.
        first: the rank whose copy is taken of what several have; None for the lowest.

    Raises:
        MissingFile: the rank `first` has no metadata here.
        MalformedMetadata: two ranks disagree on the shape, dtype or kind of an entry.
        As `formats.metadata.read_metadata`.
    """
    ranks = sorted(
        (int(match[1]), name)
        for name in storage.names()
        if (match := _NAME.fullmatch(name)) is not None
    )
    if first is not None:
        if all(rank != first for rank, _ in ranks):
            raise MissingFile(f"'__{first}.metadata' is not in {quote(storage.root)}")
        ranks.sort(key=lambda item: item[0] != first)
    merged = StoredCheckpoint(PER_RANK)
    for _rank, name in ranks:
        part = read_metadata(storage, name)
        _merge(merged, part, name)
    merged.metadata_file = ranks[0][1]
    return merged


def _merge(merged: StoredCheckpoint, part: StoredCheckpoint, name: str) -> None:
    base = len(merged.files)
    merged.files += part.files
    merged.orphans += [dataclasses.replace(o, file=o.file + base) for o in part.orphans]
    merged.globals |= part.globals
    merged.protocol = part.protocol
    merged.metadata_bytes += part.metadata_bytes
    for key, value in part.fields.items():
        merged.fields.setdefault(key, value)
    if part.planner_data is not None:
        merged.planner_data = {**(merged.planner_data or {}), **part.planner_data}
    for fqn, entry in part.entries.items():
        shifted = _shift(entry, base)
        known = merged.entries.get(fqn)
        if known is None:
            merged.entries[fqn] = shifted
        elif isinstance(known, StoredTensor) and isinstance(shifted, StoredTensor):
            if (known.shape, known.dtype) != (shifted.shape, shifted.dtype):
                raise MalformedMetadata(
                    f"{name}: {quote(fqn)} is {shifted.dtype}{list(shifted.shape)}, "
                    f"on other ranks {known.dtype}{list(known.shape)}"
                )
            merged.entries[fqn] = _join(merged, known, shifted)
        elif isinstance(known, StoredBytes) and isinstance(shifted, StoredBytes):
            merged.replicas.append(Orphan(fqn, None, shifted.file, shifted.offset, shifted.length))
        else:
            raise MalformedMetadata(f"{name}: {quote(fqn)} is a tensor on some ranks only")


def _shift(entry: StoredTensor | StoredBytes, base: int) -> StoredTensor | StoredBytes:
    if isinstance(entry, StoredBytes):
        return dataclasses.replace(entry, file=entry.file + base if entry.file >= 0 else -1)
    chunks = entry.chunks
    file = np.where(chunks.file >= 0, chunks.file + base, -1).astype(np.int32)
    table = ChunkTable(chunks.offsets, chunks.sizes, file, chunks.offset, chunks.length)
    return dataclasses.replace(entry, chunks=table)


def _join(merged: StoredCheckpoint, known: StoredTensor, more: StoredTensor) -> StoredTensor:
    """Append the chunks that are new; note copies of known ones."""
    seen = {(chunk.offsets, chunk.sizes) for chunk in known.chunks}
    fresh = []
    for row, chunk in enumerate(more.chunks):
        if (chunk.offsets, chunk.sizes) in seen:
            merged.replicas.append(
                Orphan(more.fqn, chunk.offsets, chunk.file, chunk.offset, chunk.length)
            )
        else:
            fresh.append(row)
    if not fresh:
        return known
    a, b = known.chunks, more.chunks
    if a.offsets.shape[1] != b.offsets.shape[1]:
        raise MalformedMetadata(
            f"chunks of {quote(more.fqn)} have {b.offsets.shape[1]} dimensions on one rank, "
            f"on others {a.offsets.shape[1]}"
        )
    table = ChunkTable(
        np.concatenate([a.offsets, b.offsets[fresh]]),
        np.concatenate([a.sizes, b.sizes[fresh]]),
        np.concatenate([a.file, b.file[fresh]]),
        np.concatenate([a.offset, b.offset[fresh]]),
        np.concatenate([a.length, b.length[fresh]]),
    )
    return dataclasses.replace(known, chunks=table)
