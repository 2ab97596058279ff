"""A finished directory takes its place by one rename."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from dcpctl.errors import ReadFailed, Refused, quote
from dcpctl.model import directories
from dcpctl.storage.renames import is_at, rename
from dcpctl.writing.sources import Sources
from dcpctl.writing.staging import ASIDE, sync_directory
from dcpctl.writing.steps import step

_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2


class DestinationExists(Refused):
    """There is something at the destination already."""

    id = "destination-exists"


def check_destination(
    destination: Path, sources: Sources, parts: Sequence[str] = ("",), *, overwrite: bool
) -> None:
    """Refuse a destination that is taken, or that lies where writing would touch the source.

    Args:
        destination: absolute.
        sources: of the plan.
        parts: the directories of the result that have metadata, relative to it.
        overwrite: a checkpoint there may be replaced.

    Raises:
        Refused: it is inside a source or around it, or is no checkpoint that could be replaced.
        DestinationExists: it is there, without `overwrite`.
    """
    real = destination.parent.resolve() / destination.name
    for checkpoint in sources.checkpoints:
        if checkpoint.path.is_dir():
            _check_apart(real, checkpoint.path)
        else:
            for part in checkpoint.parts:
                _check_apart(real, part.storage.root)
    if not os.path.lexists(destination):
        return
    if not overwrite:
        raise exists(destination)
    if destination.is_symlink() or not destination.is_dir():
        raise Refused(f"{quote(destination)} is no directory; it is not overwritten")
    if not _is_save(destination, parts) and any(destination.iterdir()):
        raise Refused(f"{quote(destination)} is no checkpoint; it is not overwritten")


def _check_apart(destination: Path, path: Path) -> None:
    """Refuse a destination inside a source or around it."""
    source = path.resolve()
    if destination.resolve().is_relative_to(source):
        what = "is" if destination.resolve() == source else "is inside"
        raise Refused(
            f"the destination {quote(destination)} {what} the source {quote(path)}",
            hint="name a directory beside it, or use --in-place",
        )
    if source.is_relative_to(destination):
        raise Refused(f"the destination {quote(destination)} holds the source {quote(path)}")


def _is_save(destination: Path, parts: Sequence[str]) -> bool:
    """Whether a directory is a checkpoint, or one in the same parts: what may be replaced."""
    found = [
        where.is_dir() and (directories.is_checkpoint(where) or directories.is_interrupted(where))
        for where in [destination, *(destination / part for part in parts)]
    ]
    return found[0] or all(found[1:])


def exists(destination: Path) -> DestinationExists:
    """The error for a destination that is taken."""
    return DestinationExists(
        f"{quote(destination)} exists", hint="name another, or use --overwrite to replace it"
    )


def publish(files: Path, destination: Path, *, overwrite: bool) -> None:
    """Rename a finished directory to its destination, at which nothing partial is ever to be seen.

    A checkpoint that is replaced changes places with it, and lies at `files` afterwards.

    Raises:
        DestinationExists: something is at the destination by now, without `overwrite`.
        ReadFailed: the operating system failed.
    """
    step("publish")
    try:
        if not rename_new(files, destination):
            if not overwrite:
                raise exists(destination)
            if not _rename(files, destination, _EXCHANGE):
                raise exists(destination)
    except OSError as error:
        raise ReadFailed(f"cannot make {quote(destination)}: {error.strerror}") from None
    step("published")
    with contextlib.suppress(OSError):  # it is done, whatever this says
        sync_directory(destination.parent)


def rename_new(source: Path, target: Path) -> bool:
    """Rename in one step; False, and nothing done, if `target` is there already.

    Raises:
        OSError: the operating system failed.
    """
    return _rename(source, target, _NOREPLACE)


def _rename(source: Path, target: Path, flag: int) -> bool:
    """Rename or exchange; False if the target is there (is not there, for an exchange)."""
    before = source.lstat()
    code = _renameat2(source, target, flag)
    if code == 0:
        return True
    if code in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT):
        if is_at(before, target):
            return True  # asked twice for, and done the first time
        if source.exists():
            return False
    if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(code, os.strerror(code))
    return _plain_rename(source, target, flag)


def _plain_rename(source: Path, target: Path, flag: int) -> bool:
    """The same on a filesystem without renameat2: an exchange takes two steps, neither partial."""
    if flag == _NOREPLACE:
        if os.path.lexists(target):
            return False
        rename(source, target)
        return True
    aside = source.with_name(ASIDE)
    rename(target, aside)
    try:
        step("between renames")
        rename(source, target)
    except BaseException:
        if not os.path.lexists(target):
            rename(aside, target)
        raise
    rename(aside, source)
    return True


def _renameat2(source: Path, target: Path, flag: int) -> int:
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return errno.ENOSYS
    done = call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flag)
    return ctypes.get_errno() if done else 0
