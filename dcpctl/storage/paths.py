"""Relative paths from a checkpoint, which may be hostile, to regular files inside its directory."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from dcpctl.errors import DcpctlError, MissingFile, PathOutsideCheckpoint, ReadFailed, quote

_DRIVE = re.compile(r"[A-Za-z]:")
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}


def check_relative(name: str) -> None:
    """Refuse a path that is not a plain relative one, such as `__0_0.distcp` or `sharded/a`.

    Backslashes and drive letters are refused everywhere, so that a checkpoint means the same on
    every platform; `.` and empty components, so that one file has one name.

    Raises:
        PathOutsideCheckpoint: `name` is empty, absolute, not normal, or has `..` or NUL in it.
    """
    if name.startswith("/") or _DRIVE.match(name):
        why = "is absolute"
    elif "\0" in name:
        why = "has a NUL character in it"
    elif "\\" in name:
        why = "has a backslash in it"
    elif ".." in name.split("/"):
        why = "leads out of the checkpoint directory"
    elif not all(part and part != "." for part in name.split("/")):
        why = "is not a plain relative path"
    else:
        return
    raise PathOutsideCheckpoint(f"path {quote(name)} {why}; not opened")


def real_path(path: Path) -> Path | None:
    """Where a path leads; None for one that leads nowhere: a loop, NUL or half a character."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return None


def locate(root: Path, name: str, shown: Path) -> tuple[Path, os.stat_result]:
    """Return the real path of the regular file `name` below `root`, and its stat.

    Args:
        root: the checkpoint directory, already resolved.
        name: path relative to it, as the checkpoint has it.
        shown: the directory as the user gave it, for messages.

    Raises:
        PathOutsideCheckpoint: the name, or a symlink on its way, leads out of `root`.
        MissingFile: there is nothing, or no regular file, at that place.
        ReadFailed: the operating system refused to look.
    """
    check_relative(name)
    try:
        real = (root / name).resolve(strict=True)
        if not real.is_relative_to(root):
            raise PathOutsideCheckpoint(
                f"{quote(name)} is a symbolic link that leads out of {quote(shown)}; not opened",
                hint="copy the files that the links point to into the directory (cp -rL)",
            )
        status = real.stat()
    except (OSError, RuntimeError, ValueError) as error:
        raise failed(shown, name, error) from None
    if not stat.S_ISREG(status.st_mode):
        kind = next((words for test, words in _KINDS if test(status.st_mode)), "something else")
        raise MissingFile(f"{quote(name)} in {quote(shown)} is {kind}, not a regular file")
    return real, status


def failed(shown: Path, name: str, error: Exception) -> DcpctlError:
    """Return the error class that stands for an operating system's error on `name`."""
    # Path.resolve reports a loop of symlinks as RuntimeError before Python 3.13.
    code = getattr(error, "errno", None)
    if isinstance(error, (RuntimeError, ValueError)) or code in _ABSENT:
        return MissingFile(f"{quote(name)} is missing from {quote(shown)}")
    why = getattr(error, "strerror", None) or error
    return ReadFailed(f"reading {quote(name)} in {quote(shown)} failed: {why}")


def is_directory(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry of a listing is a directory, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link that leads to itself
        return False
