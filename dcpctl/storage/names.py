"""Hidden names beside a path, for what is not whole yet."""

from __future__ import annotations

import os
from pathlib import Path

#: Bytes that every filesystem of note allows for a name.
_NAME_BYTES = 255


def beside(path: Path, tag: str) -> Path:
    """Return `.NAME.TAG` in the directory of `path`; a long NAME is cut, so that it fits there.

    The same path and tags of the same length give the same name but for the tag. A name that is
    cut ends with a checksum of the whole, so that two long ones do not meet.
    """
    room = _most_bytes(path.parent) - len(os.fsencode(f"..{tag}"))
    return path.with_name(f".{_cut(path.name, room)}.{tag}")


def _cut(name: str, room: int) -> str:
    if len(os.fsencode(name)) <= room:
        return name
    import hashlib  # takes a command's start longer than the rest of this module

    mark = "~" + hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    while len(os.fsencode(name + mark)) > room:
        name = name[:-1]  # by characters: a filesystem may insist on whole ones
    return name + mark


def _most_bytes(directory: Path) -> int:
    """Bytes of a name in a directory: 255, and 143 where eCryptfs encrypts names."""
    try:
        return min(os.pathconf(directory, "PC_NAME_MAX"), _NAME_BYTES)
    except (OSError, ValueError):
        return _NAME_BYTES
