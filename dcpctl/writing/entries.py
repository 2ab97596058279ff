"""Entries of the result, and what makes their segments once it is known where they come to lie."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from dcpctl.formats.records import ChunkTable, Int64s, StoredBytes, StoredTensor
from dcpctl.model.draft import BytesDraft, EntryDraft
from dcpctl.model.source import TensorSource
from dcpctl.writing.places import Places
from dcpctl.writing.segments import CopyItem, NewTensor, Segment


@dataclass(slots=True, eq=False)
class Made:
    """An entry of the result.

    Attributes:
        draft: what it is to be.
        places: where its items lie.
        offsets: (n, d) of its chunks; (1, 0) for a bytes entry.
        sizes: as `offsets`.
        transforms: stream transforms of its items.
    """

    draft: EntryDraft
    places: Places
    offsets: Int64s
    sizes: Int64s
    transforms: tuple[str, ...] = ()

    def stored(self) -> StoredTensor | StoredBytes:
        """The entry as the result's metadata describe it."""
        draft, places = self.draft, self.places
        if isinstance(draft, BytesDraft):
            file, offset, length = int(places.file[0]), int(places.offset[0]), int(places.length[0])
            return StoredBytes(draft.fqn, file, offset, length, self.transforms)
        chunks = ChunkTable(
            self.offsets, self.sizes, places.file.astype(np.int32), places.offset, places.length
        )
        if draft.source.entry is None:
            return StoredTensor(draft.fqn, draft.shape, draft.dtype, chunks)
        return dataclasses.replace(
            draft.source.entry.stored,
            fqn=draft.fqn,
            shape=draft.shape,
            dtype=draft.dtype,
            chunks=chunks,
            encoding="torch",
            transforms=self.transforms,
            strides=None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class CopyMaker:
    """Makes the segment of an item that is copied; an object, not a closure, to be small."""

    source: int
    offset: int
    length: int
    stored: StoredTensor | StoredBytes
    subject: str

    def __call__(self, at: int) -> Segment:
        """The segment at byte `at`."""
        stored = self.stored
        return CopyItem(
            at,
            self.length,
            self.source,
            self.offset,
            stored.encoding,
            stored.transforms,
            self.subject,
        )


@dataclass(frozen=True, slots=True, eq=False)
class TensorMaker:
    """Makes the segment of a tensor item that is written anew."""

    length: int
    source: TensorSource
    dtype: str
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    subject: str

    def __call__(self, at: int) -> Segment:
        """The segment at byte `at`."""
        return NewTensor(
            at, self.length, self.source, self.dtype, self.starts, self.sizes, self.subject
        )
