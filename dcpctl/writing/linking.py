"""Whole files that reach the destination unread: reflinks and hard links."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from dcpctl.errors import ReadFailed, Refused, quote
from dcpctl.storage.renames import link
from dcpctl.writing.sink import write_failed
from dcpctl.writing.staging import met
from dcpctl.writing.steps import step

#: `FICLONE` of <linux/fs.h>: `_IOW(0x94, 9, int)`.
_FICLONE = 0x40049409
_CANNOT = {
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EPERM,
    errno.ETXTBSY,
}


def choose(link: str, files: list[Path], directory: Path) -> str:
    """Say how untouched files are to reach `directory`: `reflink`, `hardlink` or `copy`.

    Args:
        link: as `WriteOptions.link`.
        files: the source's files.
        directory: an existing directory on the destination's filesystem.

    Raises:
        Refused: what was asked for cannot be done there.
    """
    if link == "copy" or not files:
        return "copy"
    if link == "hardlink":
        device = directory.stat().st_dev
        if any(file.stat().st_dev != device for file in files):
            raise Refused(
                f"{quote(directory)} is on another filesystem than the source: no hard links",
                hint="leave --link out",
            )
        return link
    if all(_can_reflink(file, directory) for file in files[:1]):
        return "reflink"
    if link == "reflink":
        raise Refused(
            f"the filesystem of {quote(directory)} makes no reflinks of the source's files",
            hint="leave --link out, or use --link hardlink",
        )
    return "copy"


def _can_reflink(file: Path, directory: Path) -> bool:
    """Try it with a file that has no name, so that nothing is left behind."""
    try:
        target = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        with file.open("rb") as source:
            fcntl.ioctl(target, _FICLONE, source.fileno())
        return True
    except OSError:
        return False
    finally:
        os.close(target)


def make_link(how: str, source: Path, target: Path) -> bool:
    """Make `target` a reflink of or a hard link to `source`.

    Returns:
        Whether it was made; False where the filesystem cannot for this file.

    Raises:
        ReadFailed: the operating system failed.
    """
    step(f"{how} {target.name}")
    try:
        if how == "hardlink":
            link(source, target)
            return True
        with source.open("rb") as held, target.open("xb") as made:
            fcntl.ioctl(made.fileno(), _FICLONE, held.fileno())
            os.fsync(made.fileno())
        return True
    except FileExistsError:
        raise met(target) from None
    except OSError as error:
        if how == "reflink" and error.errno in _CANNOT:
            target.unlink(missing_ok=True)
            return False
        raise _failed(target, error) from None


def _failed(target: Path, error: OSError) -> ReadFailed:
    return write_failed(target.name, error)
