"""Changes to a checkpoint's own directory that were begun, and what is left of interrupted ones.

A change is begun by the directory `.dcpctl-<n>.tmp/`, which lists the shard files that come or go
with it and the metadata that it replaces, and ends with its removal. The rename of `.metadata`
decides: if the checkpoint refers to a listed file, it belongs to it; else the next change removes
it. Several `.metadata`, those of a save in parts, take several renames: the file `ready` comes
before the first of them, and the next change makes those that are left.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dcpctl import limits
from dcpctl.errors import LimitExceeded, ReadFailed, quote
from dcpctl.formats.metadata import parse_metadata
from dcpctl.formats.records import Orphan, StoredBytes, StoredTensor
from dcpctl.writing.staging import sync_directory, write_synced
from dcpctl.writing.steps import step

METADATA = ".metadata"
_UNFINISHED = re.compile(r"\.dcpctl-(\d{1,9})\.tmp")
_SHARD = re.compile(r"__\d{1,9}_\d{1,9}\.distcp")
_ADDED = "added.json"
_READY = "ready"
#: How far above a part the directory of its save is looked for.
_LEVELS = 3


def described_files(path: Path) -> dict[str, int]:
    """The shard files that a metadata file names, with the bytes that it describes of each.

    Raises:
        LimitExceeded, MalformedMetadata, UnsafePickle: as `formats.metadata.parse_metadata`.
    """
    size = path.stat().st_size
    if size > limits.METADATA_BYTES:
        raise LimitExceeded(f"{quote(path)} has {size} bytes, over {limits.METADATA_BYTES}")
    stored = parse_metadata(path.read_bytes(), subject=path.name)
    ends = np.zeros(len(stored.files), dtype=np.int64)
    loose: list[StoredBytes | Orphan] = list(stored.orphans)
    loose += [entry for entry in stored.entries.values() if isinstance(entry, StoredBytes)]
    for item in loose:
        if item.file >= 0:
            ends[item.file] = max(int(ends[item.file]), item.offset + item.length)
    for entry in stored.entries.values():
        if isinstance(entry, StoredTensor):
            chunks, held = entry.chunks, entry.chunks.file >= 0
            np.maximum.at(ends, chunks.file[held], (chunks.offset + chunks.length)[held])
    return dict(zip(stored.files, ends.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a checkpoint's own directory.

    Attributes:
        number: of the edit.
        files: shard files that come or go with it, relative to the directory.
        metadata: the metadata files that it replaces, relative to the directory.
        undo: it takes an edit back.
    """

    number: int
    files: tuple[str, ...]
    metadata: tuple[str, ...] = (METADATA,)
    undo: bool = False

    def backup_of(self, metadata: str) -> str:
        """The file that keeps what one of the metadata files was before."""
        return backup_name(metadata, self.number)


def backup_name(metadata: str, number: int) -> str:
    """The file that keeps a metadata file as it was before the edit of that number."""
    return f"{metadata.removesuffix(METADATA)}{METADATA}.dcpctl-{number}.bak"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was done about interrupted changes.

    Attributes:
        notes: a sentence on each.
        finished: one of them was carried through, so that the checkpoint is another than it was.
    """

    notes: tuple[str, ...] = ()
    finished: bool = False


def begin_change(directory: Path, change: Change) -> Path:
    """Make the directory of an unfinished change, which says what it is about."""
    staged = directory / f".dcpctl-{change.number}.tmp"
    step("stage")
    try:
        staged.mkdir()
        for name in change.metadata:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReadFailed(f"cannot write to {quote(directory)}: {error.strerror}") from None
    said = {"files": change.files, "metadata": change.metadata, "undo": change.undo}
    write_synced(staged / _ADDED, json.dumps(said).encode())
    sync_directory(directory)
    return staged


def make_ready(staged: Path, change: Change) -> None:
    """Say that nothing but renames is left; one rename needs no such word."""
    if len(change.metadata) > 1:
        write_synced(staged / _READY, b"")
        sync_directory(staged)


def end_change(staged: Path) -> None:
    """Remove the directory of a change."""
    step("clean up")
    shutil.rmtree(staged, ignore_errors=True)


def recover(directory: Path) -> Recovered:
    """Clear away what an interrupted change has left: before its renames all of it, else the rest.

    Changes of a save that the directory is a part of are looked after too.
    """
    notes = []
    finished = False
    for where in (directory, *list(directory.parents)[:_LEVELS]):
        for staged, number in list(_unfinished(where)):
            change = _read(where, staged, number)
            if where != directory and (change is None or not _concerns(where, change, directory)):
                continue
            step("recover")
            carried = change is not None and _settle(where, staged, change)
            finished = finished or carried
            shutil.rmtree(staged)
            what = "finished" if carried else "removed what"
            rest = "" if carried else " had left"
            notes.append(f"{what} an interrupted edit{rest} in {quote(where)}")
    return Recovered(tuple(notes), finished)


def _settle(directory: Path, staged: Path, change: Change) -> bool:
    """Carry a change through or take it back; whether it was carried through."""
    carried = (staged / _READY).is_file()
    for name in change.metadata if carried else ():
        kept = directory / change.backup_of(name) if change.undo else staged / name
        if kept.is_file():
            kept.replace(directory / name)
    if carried:
        sync_directory(directory)
    for name in _stale_of(directory, staged, change):
        (directory / name).unlink(missing_ok=True)
    for name in () if change.undo else change.metadata:
        backup = directory / change.backup_of(name)
        if backup.is_file() and backup.read_bytes() == (directory / name).read_bytes():
            backup.unlink()
    return carried


def _concerns(directory: Path, change: Change, part: Path) -> bool:
    return any((directory / name).parent == part for name in change.metadata)


def stale_files(directory: Path) -> set[str]:
    """The shard files in a directory that `recover` would remove."""
    found = set()
    for where in (directory, *list(directory.parents)[:_LEVELS]):
        for staged, number in _unfinished(where):
            change = _read(where, staged, number)
            if change is not None:
                stale = (where / name for name in _stale_of(where, staged, change))
                found |= {path.name for path in stale if path.parent == directory}
    return found


def _unfinished(directory: Path) -> Iterator[tuple[Path, int]]:
    try:
        paths = sorted(directory.glob(".dcpctl-*.tmp"))
    except OSError:
        return  # a directory above that may not be listed
    for path in paths:
        match = _UNFINISHED.fullmatch(path.name)
        if match is not None and path.is_dir():
            yield path, int(match[1])


def _read(directory: Path, staged: Path, number: int) -> Change | None:
    """The change that a directory says it is; None if it was killed before it said so."""
    try:
        said = json.loads((staged / _ADDED).read_bytes())
    except (OSError, ValueError):
        return None  # nothing had been moved yet
    said = said if isinstance(said, dict) else {"files": said}
    metadata = [n for n in _strings(said.get("metadata", [METADATA])) if _inside(directory, n)]
    places = {name.removesuffix(METADATA) for name in metadata}
    files = [
        name
        for name in _strings(said.get("files"))
        if _SHARD.fullmatch(name.rpartition("/")[2])
        and name[: len(name) - len(name.rpartition("/")[2])] in places
    ]
    return Change(number, tuple(files), tuple(metadata), said.get("undo") is True)


def _strings(value: object) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def _inside(directory: Path, name: str) -> bool:
    """Whether a name is that of a metadata file in the directory or below it."""
    if "\0" in name or name.rpartition("/")[2] != METADATA:
        return False
    real = (directory / name).resolve()
    return real.is_relative_to(directory.resolve()) and real.is_file()


def _stale_of(directory: Path, staged: Path, change: Change) -> list[str]:
    """Listed files that the checkpoint does not refer to."""
    current: set[str] = set()
    for name in change.metadata:
        place = name.removesuffix(METADATA)
        current |= {f"{place}{file}" for file in described_files(directory / name)}
    return [
        name
        for name in change.files
        if name not in current
        # A file that is still in the staging directory never came to its place.
        and not (staged / name).exists()
    ]
