"""Changes to a checkpoint's own directory that were begun, and what is left of interrupted ones.

A change is begun by the directory `.dcpctl-<n>.tmp/`, which lists the shard files that come or go
with it, and ends with its removal. The rename of `.metadata` decides: if the checkpoint refers to a
listed file, it belongs to it; else the next change removes it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
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
    for staged, number in list(_unfinished(directory)):
        step("recover")
        for name in _stale_of(directory, staged):
            (directory / name).unlink(missing_ok=True)
        backup = directory / f".metadata.dcpctl-{number}.bak"
        if backup.exists() and backup.read_bytes() == (directory / METADATA).read_bytes():
            backup.unlink()
        shutil.rmtree(staged)
        notes.append(f"removed what an interrupted edit had left in {quote(directory)}")
    return notes


def stale_files(directory: Path) -> set[str]:
    """The shard files that `recover` would remove."""
    return {name for staged, _ in _unfinished(directory) for name in _stale_of(directory, staged)}


def _unfinished(directory: Path) -> Iterator[tuple[Path, int]]:
    for path in sorted(directory.iterdir()):
        match = _UNFINISHED.fullmatch(path.name)
        if match is not None and path.is_dir():
            yield path, int(match[1])


def _stale_of(directory: Path, staged: Path) -> list[str]:
    """Listed files that the checkpoint does not refer to."""
    try:
        listed = json.loads((staged / _ADDED).read_bytes())
    except (OSError, ValueError):
        return []  # killed before it was written: nothing had been moved yet
    current = described_files(directory / METADATA)
    return [
        name
        for name in listed
        if isinstance(name, str)
        and _SHARD.fullmatch(name)
        and name not in current
        # A file that is still in the staging directory never came to its place.
        and not (staged / name).exists()
    ]
