"""What there is of a broken checkpoint: which items are provably good, and what is lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dcpctl.formats.records import ChunkTable, Orphan, StoredBytes, StoredCheckpoint, StoredTensor
from dcpctl.repair.found import Found
from dcpctl.repair.wanted import BYTES, ORPHAN, REPLICA, Owner, Wanted, orphan_of
from dcpctl.storage.local import LocalStorage

WHOLE, DAMAGED, CUT, MISSING, OTHER = "whole", "damaged", "cut off", "missing", "other"

#: The metadata that a survey went by.
METADATA, TEMPORARY, REBUILT = ".metadata", ".metadata.tmp", "rebuilt"


@dataclass(frozen=True, slots=True)
class FileState:
    """One shard file.

    Attributes:
        name: relative to the checkpoint.
        state: WHOLE, DAMAGED, CUT (it ends too early), MISSING, or OTHER: its items are not the
            ones that belong there.
        size: bytes on disk; None if it is not there.
        items: items that it should hold.
        good: those of them that are provably good.
        why: what is wrong with it, in words; empty if nothing is.
        holds: of OTHER, the name of the file whose items are in it; empty if there is none.
    """

    name: str
    state: str
    size: int | None
    items: int
    good: int
    why: str = ""
    holds: str = ""


@dataclass(frozen=True, slots=True)
class Lost:
    """A chunk or bytes entry of which there is no good item.

    Attributes:
        fqn: the entry.
        row: number of the chunk in its chunk table; BYTES for a bytes entry.
        file: name of the file that should hold it; empty if no metadata name one.
        why: what is wrong, in words.
        doubtful: there are items that may be it, and it cannot be told which.
    """

    fqn: str
    row: int
    file: str
    why: str
    doubtful: bool = False


@dataclass(slots=True)
class Survey:
    """What there is.

    Attributes:
        storage: the directory.
        basis: METADATA, TEMPORARY or REBUILT.
        why_basis: why it is not METADATA; empty if it is.
        stored: the checkpoint, its chunks placed where good items are; file -1 for those lost.
        layout: the same with every chunk placed where it should be; of a rebuilt one, the
            sibling's.
        files: every shard file, in order.
        lost: what is not there.
        good: (fqn, row) of what is good, to its item.
        bytes_read: bytes compared with checksums.
        unsummed: items that record no checksum.
        strangers: shard files that belong to no entry, with content.
        stale: the metadata are of another save than the files.
        confirmed: chunks whose numbers continue the sibling's; None where that was not looked at.
        compared: chunks that were looked at for that.
    """

    storage: LocalStorage
    basis: str
    why_basis: str
    stored: StoredCheckpoint
    layout: StoredCheckpoint
    files: list[FileState] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    good: dict[tuple[str, int], Found] = field(default_factory=dict)
    bytes_read: int = 0
    unsummed: int = 0
    strangers: list[str] = field(default_factory=list)
    stale: bool = False
    confirmed: int | None = None
    compared: int = 0

    @property
    def items(self) -> int:
        """Items that there should be."""
        return sum(file.items for file in self.files)

    @property
    def verified(self) -> int:
        """Items that are provably good."""
        return sum(file.good for file in self.files)

    def is_sound(self) -> bool:
        """Whether nothing at all is wrong with the checkpoint."""
        return self.basis == METADATA and not self.lost

    def lost_of(self) -> dict[str, list[Lost]]:
        """FQN to what is lost of it, in metadata order."""
        found: dict[str, list[Lost]] = {}
        for lost in self.lost:
            found.setdefault(lost.fqn, []).append(lost)
        return {fqn: found[fqn] for fqn in self.stored.entries if fqn in found}


def owners_of(wanted: Wanted) -> Iterable[Owner]:
    """The chunks and bytes entries that an item is of; not replicas and orphans."""
    return (owner for owner in wanted.owners if owner.row >= BYTES)


def placed(
    layout: StoredCheckpoint,
    wanted: Sequence[Sequence[Wanted]],
    found: Sequence[Mapping[int, Found]],
) -> StoredCheckpoint:
    """Return a description with its items where they were found.

    Args:
        layout: the description.
        wanted: its items, by file.
        found: by file, number among `wanted` to the good item there; what has none is lost.
    """
    chunks: dict[str, ChunkTable] = {}
    entries: dict[str, StoredTensor | StoredBytes] = {}
    for fqn, entry in layout.entries.items():
        if isinstance(entry, StoredBytes):
            entries[fqn] = dataclasses.replace(entry, file=-1, offset=0, length=0)
        else:
            chunks[fqn] = _nowhere(entry.chunks)
            entries[fqn] = dataclasses.replace(entry, chunks=chunks[fqn])
    replicas: list[Orphan] = []
    for file, items in enumerate(wanted):
        for number, item in found[file].items():
            for owner in items[number].owners:
                if owner.row == REPLICA:
                    known = orphan_of(layout, owner)
                    replicas.append(
                        dataclasses.replace(known, offset=item.offset, length=item.length)
                    )
                elif owner.row == BYTES:
                    entry = entries[owner.fqn]
                    assert isinstance(entry, StoredBytes)
                    entries[owner.fqn] = dataclasses.replace(
                        entry, file=file, offset=item.offset, length=item.length
                    )
                elif owner.row != ORPHAN:
                    table = chunks[owner.fqn]
                    table.file[owner.row] = file
                    table.offset[owner.row] = item.offset
                    table.length[owner.row] = item.length
    return StoredCheckpoint(
        form=layout.form,
        entries=entries,
        files=list(layout.files),
        planner_data=layout.planner_data,
        fields=dict(layout.fields),
        replicas=replicas,
        # Which of two is meant is not found out by looking at them: `writing.plan` refuses.
        duplicates=list(layout.duplicates),
        metadata_file=layout.metadata_file,
    )


def _nowhere(chunks: ChunkTable) -> ChunkTable:
    count = len(chunks)
    return ChunkTable(
        chunks.offsets,
        chunks.sizes,
        np.full(count, -1, dtype=np.int32),
        np.zeros(count, dtype=np.int64),
        np.zeros(count, dtype=np.int64),
    )
