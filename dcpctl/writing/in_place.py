"""Edits in place: new items in one new shard file, and a new `.metadata` by one atomic rename.

The old metadata stay as `.metadata.dcpctl-<n>.bak`; no shard file is touched. What is not finished
lies in `.dcpctl-<n>.tmp/`, with a list of the shard files that the edit adds, so that the next edit
or `undo` can clear away what an interrupted one has left.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dcpctl import limits
from dcpctl.errors import ReadFailed, Refused, quote
from dcpctl.formats.metadata import parse_metadata
from dcpctl.formats.records import Orphan, StoredBytes, StoredTensor
from dcpctl.writing.conservation import prove
from dcpctl.writing.files import FileWriter
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import Plan
from dcpctl.writing.publish import rename_new
from dcpctl.writing.report import Report
from dcpctl.writing.space import check_space
from dcpctl.writing.staging import sync_directory, write_synced
from dcpctl.writing.steps import step

METADATA = ".metadata"
_BACKUP = re.compile(r"\.metadata\.dcpctl-(\d{1,9})\.bak")
_UNFINISHED = re.compile(r"\.dcpctl-(\d{1,9})\.tmp")
_ADDED = "added.json"


def write_in_place(plan: Plan, options: WriteOptions) -> Report:
    """Carry out a plan whose destination is its source.

    Raises:
        As `writing.write.write`.
    """
    started = time.monotonic()
    directory = plan.destination.resolve()
    new = [(number, file) for number, file in enumerate(plan.files) if file.link is None]
    needed = sum(file.size for _, file in new) + len(plan.metadata)
    check_space(directory, needed, len(new) + 2)
    if options.dry_run:
        return Report(plan.destination, plan.counts, "none", needed, dry_run=True)
    with locked(directory):
        notes = recover(directory)
        number = max(backups(directory), default=0) + 1
        backup = directory / f".metadata.dcpctl-{number}.bak"
        staged = begin_change(directory, number, [file.name for _, file in new])
        try:
            writer = FileWriter(plan.sources, staged, lambda file: None, lambda amount: None)
            writer.write(new, options.threads())
            write_synced(staged / METADATA, plan.metadata)
            prove(plan, staged, writer.tally)
            plan.sources.check_unchanged(plan.stamps)
            _swap(directory, staged, [file.name for _, file in new], backup)
        except BaseException:
            recover(directory)
            raise
        end_change(staged)
    seconds = time.monotonic() - started
    return Report(
        plan.destination, plan.counts, "none", needed, seconds, notes=tuple(notes), backup=backup
    )


def _swap(directory: Path, staged: Path, names: list[str], backup: Path) -> None:
    try:
        step("back up")
        _keep(directory / METADATA, backup)
        for name in names:
            step(f"place {name}")
            if not rename_new(staged / name, directory / name):
                raise Refused(f"{quote(directory / name)} has appeared meanwhile")
        sync_directory(directory)
        step("publish")
        (staged / METADATA).rename(directory / METADATA)
        step("published")
        sync_directory(directory)
    except OSError as error:
        raise ReadFailed(f"cannot change {quote(directory)}: {error.strerror}") from None


def _keep(metadata: Path, backup: Path) -> None:
    """Keep the old metadata under another name: a link, for the rename leaves its bytes alone."""
    try:
        os.link(metadata, backup)
    except OSError:
        write_synced(backup, metadata.read_bytes())


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other edits in place away.

    Raises:
        Refused: another process is at it.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"another process is editing {quote(directory)} in place") from None
        except OSError:
            pass  # a filesystem without locks
        yield
    finally:
        os.close(fd)


def backups(directory: Path) -> dict[int, Path]:
    """The metadata that earlier edits in place have kept, by number."""
    found = {}
    for path in directory.iterdir():
        if match := _BACKUP.fullmatch(path.name):
            found[int(match[1])] = path
    return found


def described_files(path: Path) -> dict[str, int]:
    """The shard files that a metadata file names, with the bytes that it describes of each.

    Raises:
        LimitExceeded, MalformedMetadata, UnsafePickle: as `formats.metadata.parse_metadata`.
    """
    if path.stat().st_size > limits.METADATA_BYTES:
        raise Refused(f"{quote(path)} is too large")
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


def begin_change(directory: Path, number: int, names: list[str]) -> Path:
    """Make the directory of an unfinished change, which lists the files that come or go with it."""
    staged = directory / f".dcpctl-{number}.tmp"
    step("stage")
    try:
        staged.mkdir()
    except OSError as error:
        raise ReadFailed(f"cannot write to {quote(directory)}: {error.strerror}") from None
    write_synced(staged / _ADDED, json.dumps(names).encode())
    sync_directory(directory)
    return staged


def end_change(staged: Path) -> None:
    """Remove the directory of a change."""
    step("clean up")
    shutil.rmtree(staged, ignore_errors=True)


def recover(directory: Path) -> list[str]:
    """Clear away what an interrupted change has left: before its rename all of it, else the rest.

    Returns:
        Sentences on what was done.
    """
    notes = []
    for staged in sorted(directory.iterdir()):
        match = _UNFINISHED.fullmatch(staged.name)
        if match is None or not staged.is_dir():
            continue
        step("recover")
        added = _listed(staged)
        metadata = directory / METADATA
        current = described_files(metadata)
        for name in added:
            # A file that is still in the staging directory never came to its place.
            if name not in current and not (staged / name).exists():
                (directory / name).unlink(missing_ok=True)
        backup = directory / f".metadata.dcpctl-{match[1]}.bak"
        if backup.exists() and backup.read_bytes() == metadata.read_bytes():
            backup.unlink()
        shutil.rmtree(staged)
        notes.append(f"removed what an interrupted edit had left in {quote(directory)}")
    return notes


def _listed(staged: Path) -> list[str]:
    try:
        names = json.loads((staged / _ADDED).read_bytes())
    except (OSError, ValueError):
        return []  # killed before it was written: nothing had been moved yet
    safe = [name for name in names if isinstance(name, str) and "/" not in name]
    return [name for name in safe if re.fullmatch(r"__\d+_\d+\.distcp", name)]
