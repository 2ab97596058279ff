"""Undoing an edit in place: the metadata of before come back, and what the edit added goes."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from dcpctl.errors import NotACheckpoint, ReadFailed, Refused, quote
from dcpctl.storage.renames import rename
from dcpctl.writing.in_place import backups, locked
from dcpctl.writing.staging import sync_directory
from dcpctl.writing.steps import step
from dcpctl.writing.unfinished import (
    METADATA,
    Change,
    begin_change,
    described_files,
    end_change,
    make_ready,
    recover,
)


@dataclass(frozen=True, slots=True)
class UndoReport:
    """What was undone.

    Attributes:
        path: the checkpoint.
        number: of the edit, counted from 1.
        removed: shard files that it had added.
        left: edits in place that can still be undone.
        notes: sentences on what else happened.
    """

    path: Path
    number: int
    removed: tuple[str, ...]
    left: int
    notes: tuple[str, ...] = ()


def undo(path: str | os.PathLike[str], *, dry_run: bool = False) -> UndoReport:
    """Take back the last edit in place of a checkpoint.

    Args:
        path: the checkpoint's directory.
        dry_run: say what would be done, and do nothing.

    Raises:
        NotACheckpoint: there is no `.metadata`.
        Refused: there is nothing to undo, or the checkpoint was saved again since.
        ReadFailed: the operating system failed.
    """
    given = Path(path)
    beside = not given.is_dir() and given.parent.is_dir()
    directory = (given.parent if beside else given).resolve()
    places = _metadata_in(directory, given.name if beside else "")
    if not places:
        raise NotACheckpoint(f"no .metadata in {quote(path)}")
    with locked(directory, [name.removesuffix(METADATA) for name in places]):
        notes = () if dry_run else recover(directory).notes
        kept = {name: backups((directory / name).parent) for name in places}
        numbers = {number for found in kept.values() for number in found}
        if not numbers:
            raise Refused(f"no edit in place of {quote(path)} is there to undo")
        number = max(numbers)
        edited = [name for name in places if number in kept[name]]
        removed = [file for name in edited for file in _added(directory, name, number)]
        report = UndoReport(Path(path), number, tuple(removed), len(numbers) - 1, notes)
        if not dry_run:
            _restore(directory, Change(number, report.removed, tuple(edited), undo=True))
    return report


def _metadata_in(directory: Path, prefix: str = "") -> list[str]:
    """The metadata of a checkpoint, or of its parts, of which some may have been edited in place.

    Args:
        directory: the checkpoint's, or where the parts of several lie side by side.
        prefix: what the names of its parts begin with there.
    """
    if not prefix and (directory / METADATA).is_file():
        return [METADATA]
    begins = glob.escape(prefix)
    levels = (f"{begins}*/", f"{begins}*/*/", f"{begins}*/*/*/")
    found = [p for level in levels for p in sorted(directory.glob(f"{level}{METADATA}"))]
    return [path.relative_to(directory).as_posix() for path in found if path.is_file()]


def _added(directory: Path, metadata: str, number: int) -> list[str]:
    """The shard files of a part that no metadata but the present ones name."""
    kept = backups((directory / metadata).parent)
    before = described_files(kept[number])
    _check_there((directory / metadata).parent, before, kept[number])
    needed = set(before).union(*(described_files(kept[n]) for n in kept if n != number))
    place = metadata.removesuffix(METADATA)
    return [f"{place}{n}" for n in described_files(directory / metadata) if n not in needed]


def _restore(directory: Path, change: Change) -> None:
    staged = begin_change(directory, change)
    try:
        make_ready(staged, change)
        step("restore")
        for name in change.metadata:
            rename(directory / change.backup_of(name), directory / name)
        step("restored")
        for name in change.metadata:
            sync_directory((directory / name).parent)
        for name in change.files:
            step(f"remove {name}")
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise ReadFailed(f"cannot change {quote(directory)}: {error.strerror}") from None
    end_change(staged)


def _check_there(directory: Path, described: dict[str, int], backup: Path) -> None:
    """See that the shard files are still those that the old metadata describe."""
    for name, end in described.items():
        file = directory / name
        size = file.stat().st_size if file.is_file() else -1
        if size < end:
            raise Refused(
                f"{quote(backup.name)} describes {end:,} bytes of {quote(name)}, "
                + (f"which has {size:,}" if size >= 0 else "which is gone")
                + ": the checkpoint was saved again since",
                hint=f"if that is so, remove {quote(backup)}",
            )
