"""Changes of names in a directory, and a look at what is there where the answer may mislead.

A network filesystem repeats a request whose answer was lost. The server, which has carried it out
already, then answers that the source of the rename is gone, that the link exists or that there is
nothing to remove: NFS, RFC 1813 section 4.10. So these errors are believed only after a look.
"""

from __future__ import annotations

import os
from pathlib import Path


def rename(source: Path, target: Path) -> None:
    """Rename, over what may be at `target`.

    Raises:
        OSError: it was not done.
    """
    before = source.lstat()
    try:
        os.rename(source, target)  # noqa: PTH104  Path.rename differs in nothing
    except FileNotFoundError:
        if not moved(before, source, target):
            raise


def moved(before: os.stat_result, source: Path, target: Path) -> bool:
    """Whether what `before` tells of is at `target` by now, and no longer at `source`."""
    return is_at(before, target) and not is_at(before, source)


def is_at(seen: os.stat_result, path: Path) -> bool:
    """Whether a file or directory that was seen is at `path`."""
    try:
        return os.path.samestat(seen, path.lstat())
    except OSError:
        return False


def link(source: Path, target: Path) -> None:
    """Make `target` a hard link to the file `source`.

    Raises:
        OSError: it was not done.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        if not is_at(source.lstat(), target):
            raise


def make_directory(path: Path) -> None:
    """Make a directory; an empty one that is there is taken for it.

    Raises:
        OSError: it was not done.
    """
    try:
        path.mkdir()
    except FileExistsError:
        if path.is_symlink() or not path.is_dir() or any(path.iterdir()):
            raise
