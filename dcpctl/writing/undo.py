"""Undoing an edit in place: the metadata of before come back, and what the edit added goes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dcpctl.errors import NotACheckpoint, ReadFailed, Refused, quote
from dcpctl.writing.in_place import backups, locked
from dcpctl.writing.staging import sync_directory
from dcpctl.writing.steps import step
from dcpctl.writing.unfinished import (
    METADATA,
    begin_change,
    described_files,
    end_change,
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
    directory = Path(path).resolve()
    if not (directory / METADATA).is_file():
        raise NotACheckpoint(f"no .metadata in {quote(path)}")
    with locked(directory):
        notes = [] if dry_run else recover(directory)
        kept = backups(directory)
        if not kept:
            raise Refused(f"no edit in place of {quote(path)} is there to undo")
        number = max(kept)
        before = described_files(kept[number])
        _check_there(directory, before, kept[number])
        others = [described_files(kept[other]) for other in kept if other != number]
        needed = set(before).union(*others)
        removed = tuple(
            name for name in described_files(directory / METADATA) if name not in needed
        )
        report = UndoReport(Path(path), number, removed, len(kept) - 1, tuple(notes))
        if dry_run:
            return report
        staged = begin_change(directory, number, list(removed))
        try:
            step("restore")
            kept[number].replace(directory / METADATA)
            step("restored")
            sync_directory(directory)
            for name in removed:
                step(f"remove {name}")
                (directory / name).unlink(missing_ok=True)
        except OSError as error:
            raise ReadFailed(f"cannot change {quote(path)}: {error.strerror}") from None
        end_change(staged)
    return report


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
