"""Edits in place: new items in one new shard file, and a new `.metadata` by one atomic rename.

The old metadata stay as `.metadata.dcpctl-<n>.bak`; no shard file is touched.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dcpctl.errors import ReadFailed, Refused, quote
from dcpctl.writing.conservation import prove
from dcpctl.writing.files import FileWriter
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import Plan
from dcpctl.writing.publish import rename_new
from dcpctl.writing.report import Report
from dcpctl.writing.space import check_space
from dcpctl.writing.staging import sync_directory, write_synced
from dcpctl.writing.steps import step
from dcpctl.writing.unfinished import METADATA, begin_change, end_change, recover

_BACKUP = re.compile(r"\.metadata\.dcpctl-(\d{1,9})\.bak")


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
