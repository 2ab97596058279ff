"""From a path to a `Checkpoint`, or to an error that says what the path is instead."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from dcpctl.errors import InterruptedSave, NotACheckpoint, ReadFailed, quote
from dcpctl.formats.layouts import LayoutReader, find_reader
from dcpctl.formats.layouts.dcp import METADATA
from dcpctl.model import directories
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.storage.local import LocalStorage


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a checkpoint directory; reads its metadata and no tensor, and imports no torch.

    Args:
        path: a directory with `.metadata`, `__{rank}.metadata` or safetensors files, or one whose
            parts lie in sub-directories that a framework names so (`model_and_optim/`,
            `pytorch_model_fsdp_0/` and `optimizer_0/`, `model/` and `optimizer/`, `pp0/` ...).

    Returns:
        The checkpoint; close it or use it as a context manager.

    Raises:
        NotACheckpoint: there is no checkpoint at `path`; the hint says what is there.
        InterruptedSave: there are shard files or `.metadata.tmp`, and no metadata.
        UnsafePickle, MalformedPickle, MalformedMetadata, LimitExceeded: the metadata is refused.
        MissingFile, PathOutsideCheckpoint: the metadata is no regular file in the directory.
        ReadFailed: the operating system failed to read.
    """
    where = Path(path)
    try:
        is_directory = where.is_dir()
    except OSError as error:  # a name that is too long, a parent that may not be searched
        raise ReadFailed(f"cannot look at {quote(where)}: {error.strerror}") from None
    if not is_directory:
        raise _not_a_directory(where)
    found = [("", where)] if directories.is_checkpoint(where) else _parts(where)
    with ExitStack() as opened:
        parts = []
        for name, directory in found:
            storage = opened.enter_context(LocalStorage(directory))
            parts.append((name, storage, _reader(directory, storage).read(storage)))
        checkpoint = Checkpoint(where, parts)
        opened.pop_all()  # the checkpoint closes its storages
    return checkpoint


def _reader(directory: Path, storage: LocalStorage) -> LayoutReader:
    reader = find_reader(storage.names())
    if reader is None:  # removed since the directory was looked at
        raise NotACheckpoint(f"no .metadata in {quote(directory)}")
    return reader


def _parts(where: Path) -> list[tuple[str, Path]]:
    _check_odd(where)
    parts = [(part.name, part) for part in directories.parts_of(where)]
    broken = [
        child
        for child in (where, *directories.subdirectories(where))
        if (child == where or directories.PART_NAMES.fullmatch(child.name))
        and directories.is_interrupted(child)
    ]
    if broken:
        raise _interrupted(broken[0])
    if not parts:
        raise _nothing_here(where)
    return parts


def _check_odd(where: Path) -> None:
    """Raise what is wrong with a metadata file that is there and cannot be opened."""
    with LocalStorage(where) as storage:
        for name in (METADATA, *storage.odd()):
            if find_reader({name: 0}) is not None and os.path.lexists(where / name):
                storage.size(name)


def _interrupted(where: Path) -> InterruptedSave:
    with LocalStorage(where) as storage:
        names = storage.names()
    temporary = sorted(name for name in names if name.endswith(".metadata.tmp"))
    if temporary:
        what = f"has {temporary[0]} and no {temporary[0].removesuffix('.tmp')}"
    else:
        shards = sum(name.endswith(".distcp") for name in names)
        what = f"has {shards} shard files and no .metadata"
    return InterruptedSave(
        f"{quote(where)} {what}: the save did not finish",
        hint="resume from the save before it, or rebuild its metadata: dcpctl repair "
        f"{quote(where)} DST --from SIBLING",
    )


def _not_a_directory(where: Path) -> NotACheckpoint:
    if where.exists():
        return NotACheckpoint(
            f"{quote(where)} is a file, expected a checkpoint directory",
            hint=f"did you mean {quote(where.parent)}?",
        )
    return NotACheckpoint(f"there is no directory {quote(where)}")


def _nothing_here(where: Path) -> NotACheckpoint:
    message = f"no .metadata in {quote(where)}"
    steps = directories.find_steps(where)
    if steps:
        return NotACheckpoint(
            message,
            hint=f"it is a run directory with {len(steps)} saves; name one, such as "
            f"{quote(steps[0].path)}",
        )
    for child in directories.subdirectories(where):
        for candidate in (child, *directories.subdirectories(child)):
            if directories.is_checkpoint(candidate):
                return NotACheckpoint(
                    message, hint=f"found {quote(candidate)}; did you mean that directory?"
                )
    with LocalStorage(where) as storage:
        names = storage.names()
    if any(name.startswith("model_world_size_") and name.endswith(".pt") for name in names):
        return NotACheckpoint(
            message, hint="it holds verl's torch.save files, which are not a DCP checkpoint"
        )
    return NotACheckpoint(message)
