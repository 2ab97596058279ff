"""Whether the destination's filesystem has room, seen before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

from dcpctl.errors import ReadFailed, quote

#: Left free beyond what is written: journal, directory entries, rounding to blocks.
_SPARE_BYTES = 1 << 20


class NoSpace(ReadFailed):
    """The destination's filesystem has too little room."""

    id = "no-space"


def check_space(directory: Path, needed: int, files: int = 0) -> None:
    """Refuse to begin what cannot be finished.

    Args:
        directory: the nearest directory that exists above the destination.
        needed: bytes that will be written.
        files: number of files among which they are divided.

    Raises:
        NoSpace: fewer bytes are free.
    """
    state = os.statvfs(directory)
    free = state.f_bavail * state.f_frsize
    rounded = needed + files * state.f_frsize
    if rounded + min(_SPARE_BYTES, needed) > free:
        raise NoSpace(
            f"{quote(directory)} has {free:,} bytes free, {rounded:,} are needed",
            hint="free some, or name a destination on another filesystem",
        )


def nearest_directory(path: Path) -> Path:
    """The first directory at or above `path` that exists."""
    while not path.is_dir():
        path = path.parent
    return path
