"""Where the items of the result's entries come to lie, and the files that new items go into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dcpctl.formats.records import Int64s
from dcpctl.writing.segments import OutputFile, Segment


@dataclass(slots=True, eq=False)
class Places:
    """The storage items of one entry of the result.

    Attributes:
        file: (n,) number of the output file; -1 if there is no item.
        offset: (n,) first byte.
        length: (n,) bytes.
    """

    file: Int64s
    offset: Int64s
    length: Int64s

    @classmethod
    def of(cls, count: int) -> Places:
        """Places for `count` items that are nowhere yet."""
        return cls(
            np.full(count, -1, dtype=np.int64),
            np.zeros(count, dtype=np.int64),
            np.zeros(count, dtype=np.int64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class NewItem:
    """An item that goes into a new file.

    Attributes:
        places: of its entry.
        row: its number there.
        length: its bytes.
        segment: makes the segment, given its first byte in the file.
    """

    places: Places
    row: int
    length: int
    segment: Callable[[int], Segment]


@dataclass(slots=True, eq=False)
class NewFile:
    """A file of new items: bytes entries first, then tensors, as torch writes them.

    Attributes:
        values: items of bytes entries.
        tensors: items of tensors.
    """

    values: list[NewItem] = field(default_factory=list)
    tensors: list[NewItem] = field(default_factory=list)

    def build(self, name: str, number: int) -> OutputFile:
        """Give every item its place.

        Args:
            name: of the file.
            number: its number among the output files.
        """
        segments = []
        at = 0
        for item in (*self.values, *self.tensors):
            item.places.file[item.row] = number
            item.places.offset[item.row] = at
            item.places.length[item.row] = item.length
            segments.append(item.segment(at))
            at += item.length
        return OutputFile(name, at, None, -1, segments)


@dataclass(slots=True, eq=False)
class OutputFiles:
    """The output files so far.

    Attributes:
        files: in the order of the numbers in `Places.file`.
    """

    files: list[OutputFile] = field(default_factory=list)

    def add(self, name: str, size: int, link: Path | None, source: int) -> int:
        """Add a file whose segments come later; returns its number."""
        self.files.append(OutputFile(name, size, link, source, ()))
        return len(self.files) - 1
