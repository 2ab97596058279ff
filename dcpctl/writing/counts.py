"""A plan in numbers: what becomes of the keys, and of the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dcpctl.model.draft import Draft, TensorDraft
from dcpctl.writing.segments import CopyItem, NewTensor, OutputFile
from dcpctl.writing.side_files import SideFile


@dataclass(frozen=True, slots=True)
class Counts:
    """A plan in numbers.

    Attributes:
        keys: entries of the result.
        added: keys that no source has.
        removed: keys of the sources that the result has under no name.
        renamed: old and new key of entries that have another key.
        replaced: keys whose value or numbers are new.
        cast: keys of tensors with another dtype.
        elements: numbers in all tensors of the result.
        tensor_bytes: bytes of those numbers.
        files: shard files of the result.
        files_whole: those that are taken over whole, linked or copied.
        bytes_whole: their bytes.
        items_copied: items that are copied as they stand into a file that is written anew.
        bytes_copied: their bytes.
        items_new: items that are written anew.
        bytes_new: their bytes.
        tensor_bytes_new: those of tensors among them.
        metadata_bytes: bytes of `.metadata`, of all parts together.
        side_files: files beside the shards that are carried over.
        side_bytes: their bytes.
    """

    keys: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    replaced: tuple[str, ...]
    cast: tuple[str, ...]
    elements: int
    tensor_bytes: int
    files: int
    files_whole: int
    bytes_whole: int
    items_copied: int
    bytes_copied: int
    items_new: int
    bytes_new: int
    tensor_bytes_new: int
    metadata_bytes: int
    side_files: int = 0
    side_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole result."""
        written = self.bytes_copied + self.bytes_new + self.metadata_bytes
        return self.bytes_linked + written

    @property
    def bytes_linked(self) -> int:
        """Bytes of the files that are taken over whole, shard files and files beside them."""
        return self.bytes_whole + self.side_bytes


def count(
    draft: Draft,
    files: Sequence[OutputFile],
    metadata_bytes: int,
    side: Sequence[SideFile] = (),
) -> Counts:
    """Count what a plan does.

    Args:
        draft: the result.
        files: its shard files.
        metadata_bytes: bytes of its metadata.
        side: files beside its shards that are carried over.
    """
    before = [entry for source in draft.sources for entry in source.entries.values()]
    known = {entry.fqn for entry in before}
    used = {id(entry.source.entry) for entry in draft.entries.values()}
    fresh = [entry for entry in draft.entries.values() if entry.source.entry is None]
    renamed = [
        (entry.source.entry.fqn, entry.fqn)
        for entry in draft.entries.values()
        if entry.source.entry is not None and entry.source.entry.fqn != entry.fqn
    ]
    tensors = [e for e in draft.entries.values() if isinstance(e, TensorDraft)]
    whole = [file for file in files if file.link is not None]
    segments = [part for file in files if file.link is None for part in file.segments]
    copied = [part for part in segments if isinstance(part, CopyItem)]
    new = [part for part in segments if not isinstance(part, CopyItem)]
    return Counts(
        keys=len(draft.entries),
        added=tuple(entry.fqn for entry in fresh if entry.fqn not in known),
        removed=tuple(
            entry.fqn
            for entry in before
            if id(entry) not in used and entry.fqn not in draft.entries
        ),
        renamed=tuple(renamed),
        replaced=tuple(entry.fqn for entry in fresh if entry.fqn in known),
        cast=tuple(
            e.fqn for e in tensors if e.source.entry is not None and e.dtype != e.source.entry.dtype
        ),
        elements=sum(entry.numel for entry in tensors),
        tensor_bytes=sum(entry.nbytes for entry in tensors),
        files=len(files),
        files_whole=len(whole),
        bytes_whole=sum(file.size for file in whole),
        items_copied=len(copied),
        bytes_copied=sum(part.length for part in copied),
        items_new=len(new),
        bytes_new=sum(part.length for part in new),
        tensor_bytes_new=sum(part.length for part in new if isinstance(part, NewTensor)),
        metadata_bytes=metadata_bytes,
        side_files=len(side),
        side_bytes=sum(file.size for file in side),
    )
