"""What is lost, and the items elsewhere that take its place."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path

from dcpctl.formats.records import ChunkTable, StoredBytes, StoredCheckpoint, StoredTensor
from dcpctl.model.checkpoint import Checkpoint, Part
from dcpctl.repair.remedy import COPIED, Remedy
from dcpctl.repair.survey import Lost, Survey
from dcpctl.repair.wanted import BYTES
from dcpctl.storage.local import LocalStorage

#: Part, file in the part, first byte and bytes of an item.
Place = tuple[int, int, int, int]
Key = tuple[str, int]


class PartsBin:
    """What is lost, and the items that take its place.

    Args:
        survey: of the broken checkpoint.

    Attributes:
        remedies: what was found, and where.
        warnings: what is not exact, a sentence each.
        offered: chunks that a sibling has of another save, and that were not taken.
    """

    def __init__(self, survey: Survey) -> None:
        self.survey = survey
        self.remedies: list[Remedy] = []
        self.warnings: list[str] = []
        self.offered = 0
        self._places: dict[Key, Place] = {}
        own = dataclasses.replace(survey.stored, entries={}, replicas=[])
        self._parts: list[tuple[str, LocalStorage, StoredCheckpoint]] = [("", survey.storage, own)]

    def left(self) -> list[Lost]:
        """What is lost and has not been found elsewhere."""
        return [lost for lost in self.survey.lost if (lost.fqn, lost.row) not in self._places]

    def add_part(self, name: str, part: Part) -> int:
        """Add a directory that items come from; returns its number."""
        files = StoredCheckpoint(part.stored.form, files=list(part.stored.files))
        self._parts.append((name, part.storage, files))
        return len(self._parts) - 1

    def put(self, lost: Lost, place: Place, what: str) -> None:
        """Take the item at a place for what is lost."""
        self._places[(lost.fqn, lost.row)] = place
        part, file = place[:2]
        _, storage, files = self._parts[part]
        origin = files.files[file] if part == 0 else str(storage.root / files.files[file])
        offsets, sizes = box_of(self.survey, lost)
        self.remedies.append(Remedy(what, lost.fqn, offsets, sizes, origin))

    def checkpoint(self, path: Path) -> Checkpoint:
        """The checkpoint with all that is good of it and all that was found elsewhere."""
        if not self._places:
            return Checkpoint(path, [("", self.survey.storage, self.survey.stored)])
        first: list[int] = []
        count = 0
        for _, _, files in self._parts:
            first.append(count)
            count += len(files.files)
        by_entry: dict[str, dict[int, Place]] = defaultdict(dict)
        for (fqn, row), (part, file, offset, length) in self._places.items():
            by_entry[fqn][row] = (part, first[part] + file, offset, length)
        entries = {
            fqn: _placed(entry, by_entry[fqn]) if fqn in by_entry else entry
            for fqn, entry in self.survey.stored.entries.items()
        }
        return Checkpoint(path, self._parts, entries)


def _placed(
    entry: StoredTensor | StoredBytes, places: dict[int, Place]
) -> StoredTensor | StoredBytes:
    if isinstance(entry, StoredBytes):
        _, file, offset, length = places[BYTES]
        return dataclasses.replace(entry, file=file, offset=offset, length=length)
    chunks = entry.chunks
    file_, offset_, length_ = chunks.file.copy(), chunks.offset.copy(), chunks.length.copy()
    for row, (_, file, offset, length) in places.items():
        file_[row], offset_[row], length_[row] = file, offset, length
    made = ChunkTable(chunks.offsets, chunks.sizes, file_, offset_, length_)
    return dataclasses.replace(entry, chunks=made)


def box_of(
    survey: Survey, lost: Lost
) -> tuple[tuple[int, ...], tuple[int, ...]] | tuple[None, None]:
    """Offsets and sizes of a lost chunk; None for a bytes entry."""
    entry = survey.layout.entries[lost.fqn]
    if isinstance(entry, StoredBytes):
        return None, None
    chunk = entry.chunks[lost.row]
    return chunk.offsets, chunk.sizes


def collect_copies(survey: Survey, bins: PartsBin) -> None:
    """Find what is lost among the copies that each rank of a replicated group wrote for itself.

    The per-rank form (`use_collectives=False`) has them; the others write one copy.
    """
    copies = {(copy.fqn, copy.offsets): copy for copy in survey.stored.replicas}
    for lost in bins.left():
        copy = copies.get((lost.fqn, box_of(survey, lost)[0]))
        if copy is not None:
            bins.put(lost, (0, copy.file, copy.offset, copy.length), COPIED)
