"""The files that a draft's bytes come from, in one numbering, and whether they stay the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcpctl.errors import DcpctlError, MissingFile, TruncatedFile, listed, quote
from dcpctl.model.checkpoint import Checkpoint, Part
from dcpctl.model.draft import Draft
from dcpctl.model.entry import BytesEntry, TensorEntry
from dcpctl.model.shard_file import ShardFile
from dcpctl.storage.local import LocalStorage
from dcpctl.writing.segments import CopyItem, NewTensor, OutputFile
from dcpctl.writing.side_files import SideFile


class SourceChanged(DcpctlError):
    """A file of the source was written to while it was being read."""

    id = "source-changed"
    exit_code = 5


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A shard file of a source, or a file beside them.

    Attributes:
        storage: the directory that it is read through.
        name: its name there.
        shard: what its checkpoint says of it.
    """

    storage: LocalStorage
    name: str
    shard: ShardFile

    @property
    def path(self) -> Path:
        """Where it lies, for a link to it; symbolic links are followed.

        Raises:
            MissingFile, PathOutsideCheckpoint: there is no such file inside the checkpoint.
        """
        self.storage.size(self.name)
        return (self.storage.root / self.name).resolve()


Stamp = tuple[int, int, int, int]


class Sources:
    """Every shard file of a draft's checkpoints, numbered through, and the files beside them.

    Args:
        checkpoints: the draft's sources.
        side: files beside their shards, whose numbers follow.

    Attributes:
        files: the files.
        shards: number of shard files among them; they come first.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint], side: Sequence[SideFile] = ()) -> None:
        self.checkpoints = tuple(checkpoints)
        files: list[SourceFile] = []
        self._first: dict[int, int] = {}
        for checkpoint in self.checkpoints:
            for entry in checkpoint.entries.values():
                self._first[id(entry)] = len(files)
            for number, shard in enumerate(checkpoint.files):
                part = _part_of(checkpoint, number)
                name = part.stored.files[number - part.first_file]
                files.append(SourceFile(part.storage, name, shard))
        self.shards = len(files)
        storages = {file.root: LocalStorage(file.root) for file in side}
        for file in side:
            shown = ShardFile(file.name, None, None, file.size, file.size, 0)
            files.append(SourceFile(storages[file.root], file.name, shown))
        self.files: tuple[SourceFile, ...] = tuple(files)

    @property
    def transformed(self) -> bool:
        """Whether any item is compressed."""
        return any(
            entry.stored.transforms
            for checkpoint in self.checkpoints
            for entry in checkpoint.entries.values()
        )

    @classmethod
    def of(cls, draft: Draft, side: Sequence[SideFile] = ()) -> Sources:
        """The sources of a draft."""
        return cls(draft.sources, side)

    def first_file(self, entry: TensorEntry | BytesEntry) -> int:
        """What to add to an entry's file numbers to get numbers in `files`.

        Raises:
            KeyError: the entry is of none of the checkpoints.
        """
        return self._first[id(entry)]

    def check_whole(self, number: int) -> int:
        """Return the size of a file, having seen that it holds what is described.

        Raises:
            MissingFile, TruncatedFile: it does not.
        """
        file = self.files[number]
        if file.shard.size is None:
            raise MissingFile(
                f"{quote(file.shard.name)} is missing from {quote(file.storage.root)}"
            )
        if file.shard.size < file.shard.described_bytes:
            raise TruncatedFile(
                f"{quote(file.shard.name)} has {file.shard.size} bytes, "
                f"{file.shard.described_bytes} of it are described"
            )
        return file.shard.size

    def stamps(self) -> dict[int, Stamp]:
        """Size, time of change (ns), device and inode of every file that is there."""
        found = {}
        for number, file in enumerate(self.files):
            try:
                status = (file.storage.root / file.name).stat()
            except (OSError, ValueError):  # NUL, or half a character, in its name
                continue
            found[number] = (status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino)
        return found

    def check_there(self, files: Sequence[OutputFile], stamps: Mapping[int, Stamp]) -> None:
        """See that the shard files are there which a result takes something from.

        Args:
            files: what the result is made of.
            stamps: of the files that are there.

        Raises:
            MissingFile: one is not.
        """
        gone = {number for number in range(self.shards) if number not in stamps}
        if not gone:
            return
        needed: set[int] = set()
        for file in files:
            needed.add(file.source)
            for segment in file.segments:
                if isinstance(segment, CopyItem):
                    needed.add(segment.source)
                elif isinstance(segment, NewTensor):
                    for entry in segment.entries:
                        first = self.first_file(entry)
                        needed.update(first + n for n in entry.chunks.file.tolist())
        lost = [self.files[number] for number in sorted(gone & needed)]
        if lost:
            raise MissingFile(
                f"{listed(file.name for file in lost)} {'is' if len(lost) == 1 else 'are'} "
                f"missing from {quote(lost[0].storage.root)}",
                hint="gather the files of all nodes in one directory, or run dcpctl repair",
            )

    def check_unchanged(self, before: dict[int, Stamp]) -> None:
        """See that no file has changed since `stamps` gave `before`.

        Raises:
            SourceChanged: one has.
        """
        now = self.stamps()
        changed = [number for number, stamp in before.items() if now.get(number) != stamp]
        if changed:
            names = [quote(self.files[number].shard.name) for number in changed]
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            beside = all(number >= self.shards for number in changed)
            also = "; --no-side-files leaves out what lies beside the shards" if beside else ""
            raise SourceChanged(
                f"{', '.join(names[:5])}{more} changed while being read; nothing was published",
                hint=f"wait until the save is finished, then run the command again{also}",
            )


def _part_of(checkpoint: Checkpoint, file: int) -> Part:
    return [part for part in checkpoint.parts if part.first_file <= file][-1]
