"""Changes to a checkpoint's own directory that were begun, and what is left of interrupted ones.

A change is begun by the directory `.dcpctl-<n>.tmp/`, which lists the shard files that come or go
with it and the metadata that it replaces, and ends with its removal. The rename of `.metadata`
decides: if the checkpoint refers to a listed file, it belongs to it; else the next change removes
it. Several `.metadata`, those of a save in parts, take several renames: the file `ready` comes
before the first of them, and the next change makes those that are left.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dcpctl import limits
from dcpctl.errors import LimitExceeded, MalformedMetadata, MissingFile, ReadFailed, quote
from dcpctl.formats.metadata import parse_metadata
from dcpctl.formats.records import Orphan, StoredBytes, StoredTensor
from dcpctl.storage.local import LocalStorage
from dcpctl.storage.renames import make_directory, rename
from dcpctl.writing.staging import sync_directory, write_synced
from dcpctl.writing.steps import step

METADATA = ".metadata"
_UNFINISHED = re.compile(r"\.dcpctl-(\d{1,9})\.tmp")
_SHARD = re.compile(r"__\d{1,9}_\d{1,9}\.distcp")
_ADDED = "added.json"
_READY = "ready"
#: Largest list of files that a change may have.
_MOST_SAID = 64 << 20
#: How far above a part the directory of its save is looked for.
_LEVELS = 3


def described_files(path: Path) -> dict[str, int]:
    """The shard files that a metadata file names, with the bytes that it describes of each.

    Raises:
        LimitExceeded, MalformedMetadata, UnsafePickle: as `content` and
            `formats.metadata.parse_metadata`.
    """
    stored = parse_metadata(_metadata(path), subject=path.name)
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


def _metadata(path: Path) -> bytes:
    """The bytes of a metadata file; the checkpoint's own may be a link inside of it."""
    if path.name != METADATA:
        return content(path, limits.METADATA_BYTES)
    with LocalStorage(path.parent) as storage:
        return storage.read_all(path.name, limits.METADATA_BYTES)


def content(path: Path, limit: int) -> bytes:
    """Read a file that an edit in place has left, if that is what it is.

    Raises:
        MissingFile: it is not there.
        MalformedMetadata: it is a link, a FIFO or anything else than a plain file; not opened
            through.
        LimitExceeded: it has more than `limit` bytes.
        ReadFailed: the operating system failed.
    """
    try:
        # Neither a link is followed, nor does a FIFO block.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise MissingFile(f"{quote(path)} is gone") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR, errno.ENODEV):
            raise _no_file(path) from None
        raise ReadFailed(f"cannot read {quote(path)}: {error.strerror}") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise _no_file(path)
    with os.fdopen(fd, "rb") as file:
        if status.st_size > limit:
            raise LimitExceeded(f"{quote(path)} has {status.st_size} bytes, over {limit}")
        return file.read(limit)


def _no_file(path: Path) -> MalformedMetadata:
    return MalformedMetadata(
        f"{quote(path)} is no plain file, which an edit in place would have left; not followed",
        hint="remove it, if you know where it came from",
    )


def check_plain(path: Path) -> bool:
    """Whether a file is there; raises MalformedMetadata if it is a link or no file."""
    try:
        status = path.lstat()
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode):
        raise _no_file(path)
    return True


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
        make_directory(staged)
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
        for staged, number in list(_unfinished(where, own=where == directory)):
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
    carried = check_plain(staged / _READY)
    for name in change.metadata if carried else ():
        kept = directory / change.backup_of(name) if change.undo else staged / name
        if not kept.parent.resolve().is_relative_to(directory.resolve()):
            raise _no_file(kept.parent)
        if check_plain(kept):
            # Nothing is published that is not the metadata of a checkpoint.
            described_files(kept)
            rename(kept, directory / name)
    if carried:
        sync_directory(directory)
    for name in _stale_of(directory, staged, change):
        (directory / name).unlink(missing_ok=True)
    for name in () if change.undo else change.metadata:
        backup = directory / change.backup_of(name)
        if check_plain(backup) and _same(backup, directory / name):
            backup.unlink()
    return carried


def _same(first: Path, second: Path) -> bool:
    return _metadata(first) == _metadata(second)


def _concerns(directory: Path, change: Change, part: Path) -> bool:
    return any((directory / name).parent == part for name in change.metadata)


def stale_files(directory: Path) -> set[str]:
    """The shard files in a directory that `recover` would remove."""
    found = set()
    for where in (directory, *list(directory.parents)[:_LEVELS]):
        for staged, number in _unfinished(where, own=where == directory):
            change = _read(where, staged, number)
            if change is not None:
                stale = (where / name for name in _stale_of(where, staged, change))
                found |= {path.name for path in stale if path.parent == directory}
    return found


def _unfinished(directory: Path, *, own: bool) -> Iterator[tuple[Path, int]]:
    """The directories of unfinished changes; a link in the place of one's `own` is refused."""
    try:
        paths = sorted(directory.glob(".dcpctl-*.tmp"))
    except OSError:
        return  # a directory above that may not be listed
    for path in paths:
        match = _UNFINISHED.fullmatch(path.name)
        if match is None:
            continue
        if path.is_symlink() and own:
            raise _no_file(path)
        if path.is_dir() and not path.is_symlink():
            yield path, int(match[1])


def _read(directory: Path, staged: Path, number: int) -> Change | None:
    """The change that a directory says it is; None if it was killed before it said so."""
    try:
        said = json.loads(content(staged / _ADDED, _MOST_SAID))
    except (MissingFile, ValueError):
        return None  # nothing had been moved yet
    except RecursionError:
        raise MalformedMetadata(f"{quote(staged / _ADDED)} is nested too deeply") from None
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
