"""What other distributions add to dcpctl, by entry points."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any


@cache
def entry_points(group: str) -> tuple[Any, ...]:
    """Return the entry points of a group, by name.

    `importlib.metadata` takes longer to import than all else that lists the commands; so it is
    asked only where a distribution's file has the group's name in it.
    """
    if not any(group.encode() in text for text in _texts()):
        return ()
    from importlib import metadata

    return tuple(sorted(metadata.entry_points(group=group), key=lambda one: one.name))


@cache
def _texts() -> tuple[bytes, ...]:
    """The files of entry points on the path that imports are looked for on."""
    found = []
    for place in dict.fromkeys(sys.path):
        with suppress(OSError):
            for directory in Path(place).iterdir():
                if directory.name.endswith("-info"):
                    with suppress(OSError):
                        found.append((directory / "entry_points.txt").read_bytes())
    return tuple(found)
