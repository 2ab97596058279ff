"""Edits in place: new items in one new shard file, and a new `.metadata` by one atomic rename.

The old metadata stay as `.metadata.dcpctl-<n>.bak`; no shard file is touched. Of a save in parts
only those are touched that the edit is about, each by a rename of its own.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dcpctl.errors import ReadFailed, Refused, quote
from dcpctl.storage.renames import link, rename
from dcpctl.writing.conservation import prove
from dcpctl.writing.files import FileWriter
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import Plan
from dcpctl.writing.publish import rename_new
from dcpctl.writing.report import Report
from dcpctl.writing.sources import SourceChanged
from dcpctl.writing.space import check_space
from dcpctl.writing.staging import sync_directory, write_synced
from dcpctl.writing.steps import step
from dcpctl.writing.unfinished import (
    METADATA,
    Change,
    begin_change,
    check_plain,
    end_change,
    make_ready,
    recover,
)

_BACKUP = re.compile(r"\.metadata\.dcpctl-(\d{1,9})\.bak")


def write_in_place(plan: Plan, options: WriteOptions) -> Report:
    """Carry out a plan whose destination is its source.

    Raises:
        As `writing.write.write`.
    """
    started = time.monotonic()
    directory = plan.destination.resolve()
    new = [(number, file) for number, file in enumerate(plan.files) if file.link is None]
    parts = [part for part in plan.parts if not part.stays]
    needed = sum(file.size for _, file in new) + sum(len(part.metadata) for part in parts)
    check_space(directory, needed, len(new) + 2)
    if options.dry_run or not parts:
        return Report(plan.destination, plan.counts, "none", needed, dry_run=options.dry_run)
    with locked(directory, [part.name for part in plan.parts]):
        recovered = recover(directory)
        if recovered.finished:
            raise SourceChanged(
                f"{'; '.join(recovered.notes)}: this edit was planned for what it was before",
                hint="run the command again",
            )
        change = Change(
            max(_numbers(plan, directory), default=0) + 1,
            tuple(file.name for _, file in new),
            tuple(part.located(METADATA) for part in parts),
        )
        staged = begin_change(directory, change)
        try:
            writer = FileWriter(plan.sources, staged, lambda file: None, lambda amount: None)
            writer.write(new, options.threads())
            for part in parts:
                write_synced(staged / part.located(METADATA), part.metadata)
            prove(plan, staged, writer.tally)
            plan.sources.check_unchanged(plan.stamps)
            _swap(directory, staged, change)
        except BaseException:
            recover(directory)
            raise
        end_change(staged)
    return Report(
        plan.destination,
        plan.counts,
        "none",
        needed,
        time.monotonic() - started,
        notes=recovered.notes,
        backup=directory / change.backup_of(change.metadata[0]),
    )


def _numbers(plan: Plan, directory: Path) -> set[int]:
    """Numbers of the edits that any part of the checkpoint has kept metadata of."""
    return {number for part in plan.parts for number in backups(directory / part.name)}


def _swap(directory: Path, staged: Path, change: Change) -> None:
    try:
        step("back up")
        for metadata in change.metadata:
            _keep(directory / metadata, directory / change.backup_of(metadata))
        for name in change.files:
            step(f"place {name}")
            if not rename_new(staged / name, directory / name):
                raise Refused(f"{quote(directory / name)} has appeared meanwhile")
        _sync(directory, change)
        make_ready(staged, change)
        for metadata in change.metadata:
            step("publish")
            rename(staged / metadata, directory / metadata)
        step("published")
        _sync(directory, change)
    except OSError as error:
        raise ReadFailed(f"cannot change {quote(directory)}: {error.strerror}") from None


def _sync(directory: Path, change: Change) -> None:
    for metadata in change.metadata:
        sync_directory((directory / metadata).parent)


def _keep(metadata: Path, backup: Path) -> None:
    """Keep the old metadata under another name: a link, for the rename leaves its bytes alone."""
    try:
        if not metadata.is_symlink():  # a link to it would be one to what it leads to
            link(metadata, backup)
            return
    except FileExistsError:
        raise
    except OSError:
        pass  # a filesystem without hard links
    write_synced(backup, metadata.read_bytes())


@contextmanager
def locked(directory: Path, parts: Sequence[str] = ()) -> Iterator[None]:
    """Keep other edits in place away, from a checkpoint and from its parts.

    Raises:
        Refused: another process is at it.
    """
    with ExitStack() as held:
        for where in dict.fromkeys([directory, *(directory / part for part in parts)]):
            fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            held.callback(os.close, fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(f"another process is editing {quote(where)} in place") from None
            except OSError:
                pass  # a filesystem without locks
        yield


def backups(directory: Path) -> dict[int, Path]:
    """The metadata that earlier edits in place have kept, by number.

    Raises:
        MalformedMetadata: one of them is a link, or no file.
    """
    found = {}
    for path in directory.iterdir():
        match = _BACKUP.fullmatch(path.name)
        if match and check_plain(path):
            found[int(match[1])] = path
    return found
