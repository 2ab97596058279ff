"""From a path to a `Checkpoint`, or to an error that says what the path is instead."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from dcpctl.errors import InterruptedSave, NotACheckpoint, ReadFailed, UsageError, quote
from dcpctl.formats.layouts import LayoutReader, dcp, find_reader, fit, foreign, per_rank
from dcpctl.formats.layouts.dcp import METADATA
from dcpctl.formats.records import StoredCheckpoint
from dcpctl.model import directories, saves
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.shard_file import missing_ranks, rank_words, ranks_among
from dcpctl.storage.local import LocalStorage


def open_checkpoint(path: str | os.PathLike[str], *, keep_rank: int | None = None) -> Checkpoint:
    """Open a checkpoint directory; reads its metadata and no tensor, and imports no torch.

    Args:
        path: a directory with `.metadata`, `__{rank}.metadata` or safetensors files, or one below
            which lies one checkpoint, or several that are its parts (`model.saves` tells how).
        keep_rank: with metadata per rank, the rank whose copy is read of what several ranks saved
            each for itself; None takes the lowest.

    Returns:
        The checkpoint; close it or use it as a context manager.

    Raises:
        NotACheckpoint: there is no checkpoint at `path`; the hint says what is there.
        InterruptedSave: there are shard files or `.metadata.tmp`, and no metadata.
        UnsafePickle, MalformedPickle, MalformedMetadata, LimitExceeded: the metadata is refused.
        MissingFile, PathOutsideCheckpoint: the metadata is no regular file in the directory, or
            `keep_rank` has none.
        UsageError: `keep_rank` of a checkpoint without metadata per rank.
        ReadFailed: the operating system failed to read.
    """
    where = Path(path)
    try:
        is_directory = where.is_dir()
    except OSError as error:  # a name that is too long, a parent that may not be searched
        raise ReadFailed(f"cannot look at {quote(where)}: {error.strerror}") from None
    if is_directory and directories.is_checkpoint(where):
        found = [("", where)]
    else:
        found = _parts(where, is_directory)
    with ExitStack() as opened:
        parts = []
        for name, directory in found:
            storage = opened.enter_context(LocalStorage(directory))
            parts.append((name, storage, _described(directory, storage, keep_rank)))
        checkpoint = Checkpoint(where, parts)
        opened.pop_all()  # the checkpoint closes its storages
    return checkpoint


def _described(directory: Path, storage: LocalStorage, keep_rank: int | None) -> StoredCheckpoint:
    """What the directory's metadata say; of two kinds of metadata, those that fit the files."""
    names = storage.names()
    if dcp.recognises(names) and per_rank.recognises(names):
        reader: LayoutReader | None = per_rank if fit.fitting(storage) == fit.PER_RANK else dcp
    else:
        reader = find_reader(names)
    if reader is None:  # removed since the directory was looked at
        raise NotACheckpoint(f"no .metadata in {quote(directory)}")
    if keep_rank is None:
        return reader.read(storage)
    if reader is not per_rank:
        raise UsageError(
            f"{quote(directory)} has no metadata per rank, so there are no copies to choose from",
            hint="leave --keep-rank out",
        )
    return per_rank.read(storage, keep_rank)


def _parts(where: Path, is_directory: bool) -> list[tuple[str, Path]]:
    """The checkpoints of a save by their paths below it; parts side by side, by their names."""
    if is_directory:
        _check_odd(where)
        if directories.is_interrupted(where):
            raise _interrupted(where)
    try:
        found = saves.look(where)
    except (OSError, ValueError):  # no path at all
        raise _not_a_directory(where) from None
    if found.save is None:
        raise _nothing_here(where, found) if is_directory else _not_a_directory(where)
    for part in found.save.parts:
        if directories.is_interrupted(part):
            raise _interrupted(part)
    around = where if is_directory else where.parent
    return [(part.relative_to(around).as_posix(), part) for part in found.save.parts]


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
    repair = (
        "resume from the save before it, or rebuild its metadata: dcpctl repair "
        f"{quote(where)} DST --from SIBLING"
    )
    if temporary:
        gone = temporary[0].removesuffix(".tmp")
        return InterruptedSave(
            f"{quote(where)} has {temporary[0]} and no {gone}: the save did not finish", hint=repair
        )
    here = ranks_among(names)
    shards = sum(name.endswith(".distcp") for name in names)
    what = f"has {shards} shard file{'s' * (shards != 1)}"
    what += f", of {rank_words(here)}," if here else ""
    gone_ranks = missing_ranks(here)
    without = f"; the files of {rank_words(gone_ranks)} are not here" if gone_ranks else ""
    return InterruptedSave(
        f"{quote(where)} {what} and no .metadata{without}",
        hint="where each node saves to a disk of its own, gather the files of all nodes, .metadata "
        f"too, in one directory; after an interrupted save {repair}",
    )


def _not_a_directory(where: Path) -> NotACheckpoint:
    if where.exists():
        other = foreign.file(where)
        what = "a file" if other is None else other.what
        return NotACheckpoint(
            f"{quote(where)} is {what}, expected a checkpoint directory",
            hint=f"did you mean {quote(where.parent)}?" if other is None else other.hint,
        )
    remote = foreign.url(os.fspath(where))
    if remote is not None:
        return NotACheckpoint(f"{quote(where)} is {remote.what}", hint=remote.hint)
    return NotACheckpoint(f"there is no directory {quote(where)}")


def _nothing_here(where: Path, found: saves.Found) -> NotACheckpoint:
    message = f"no .metadata in {quote(where)}"
    if found.saves:
        newest = next((s for s in found.saves if s.state == saves.COMPLETE), found.saves[0])
        several = f", {len(found.runs)} runs," if len(found.runs) > 1 else ""
        count = len(found.saves)
        return NotACheckpoint(
            message,
            hint=f"it is a run directory{several} with {count} save{'s' * (count > 1)}; name one, "
            f"such as {quote(newest.path)}",
        )
    other = foreign.directory(where)
    if other is None and found.unread:
        first, why = next(iter(found.unread.items()))
        more = f" and {len(found.unread) - 1:,} more" if len(found.unread) > 1 else ""
        return NotACheckpoint(message, hint=f"not looked at: {quote(first)} ({why}){more}")
    if other is None:
        return NotACheckpoint(message)
    return NotACheckpoint(f"{message}: it is {other.what}", hint=other.hint)
