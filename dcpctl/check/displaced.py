"""Shard files whose content is another one's: swapped, rotated or copied over each other.

The metadata of one file, where its items begin and end and what they hold, fits no other content by
chance. Where the items of a file cannot be read and those of another one lie in it, the content is
the other one's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from dcpctl.check.item_reader import ItemReader
from dcpctl.check.items import Items, part_of
from dcpctl.formats.arrays import distinct
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.entry import TensorEntry

#: Items of a file that are opened to see whether a content fits, and files that are tried.
_PROBED, _TRIED = 24, 64
#: In a content that is another file's lie so many of its own items at most, and of the other's at
#: least.
_OWN, _OTHERS = 0.7, 0.95
_LEAST = 3


def find_displaced(checkpoint: Checkpoint, items: Items, suspects: Iterable[int]) -> dict[int, int]:
    """Say which files hold the content of which other file of the checkpoint.

    Args:
        checkpoint: opened.
        items: its items.
        suspects: numbers of the files some of whose items could not be read.

    Returns:
        Number of a file -> number of the file whose content lies in it.
    """
    found: dict[int, int] = {}
    for number in suspects:
        if _fits(checkpoint, items, number, number) <= _OWN:
            owner = _owner_of(checkpoint, items, number)
            if owner is not None:
                found[number] = owner
    return found


def _owner_of(checkpoint: Checkpoint, items: Items, number: int) -> int | None:
    """The only other file whose items lie in a content; None if there is none, or several."""
    size = checkpoint.files[number].size
    part = part_of(checkpoint, number)
    others = [
        other
        for other, file in enumerate(checkpoint.files)
        if other != number and file.described_bytes == size and part_of(checkpoint, other) is part
    ]
    owners = [
        other for other in others[:_TRIED] if _fits(checkpoint, items, other, number) >= _OTHERS
    ]
    return owners[0] if len(owners) == 1 else None


def _fits(checkpoint: Checkpoint, items: Items, whose: int, content: int) -> float:
    """The share of a file's items that lie in the content of a file; 1 where too few tell."""
    place = items.of_file(whose)
    rows = [row for row in range(place.start, place.stop) if _tells(checkpoint, items, row)]
    if len(rows) < _LEAST:
        return 1.0 if whose == content else 0.0
    picked = distinct(np.linspace(0, len(rows) - 1, _PROBED).astype(int)).tolist()
    moved = replace(items, file=np.full_like(items.file, content))
    reader = ItemReader(checkpoint, moved)
    reports = [reader.read(rows[index], whole=False) for index in picked]
    good = sum(not (report.unread or report.malformed or report.unlike) for report in reports)
    return good / len(reports)


def _tells(checkpoint: Checkpoint, items: Items, row: int) -> bool:
    """Whether an item has a form of its own, and is not bare numbers."""
    entry = checkpoint.entries.get(items.fqn(row))
    return not isinstance(entry, TensorEntry) or entry.stored.encoding == "torch"
