"""The work on output files in portions that threads take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dcpctl.writing.segments import CopyItem, OutputFile, Segment

#: Portions have about this many bytes, so that small items do not cost a turn each.
BATCH_BYTES = 4 << 20
_BATCH_SEGMENTS = 512


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Consecutive segments of one output file.

    Attributes:
        file: number of the file.
        index: number of the batch in the file.
        segments: by position.
        last: no further batch of the file follows.
    """

    file: int
    index: int
    segments: list[Segment]
    last: bool

    @property
    def stop(self) -> int:
        """The byte of the file after its last segment."""
        return self.segments[-1].at + self.segments[-1].length if self.segments else 0


def batches_of(number: int, file: OutputFile) -> Iterator[Batch]:
    """Divide a file's segments; a file without any gives one empty batch."""
    held: list[Segment] = []
    size = index = 0
    for segment in every_byte(file) if file.link is not None else file.segments:
        if held and (size + segment.length > BATCH_BYTES or len(held) >= _BATCH_SEGMENTS):
            yield Batch(number, index, held, last=False)
            held, size = [], 0
            index += 1
        held.append(segment)
        size += segment.length
    yield Batch(number, index, held, last=True)


def every_byte(file: OutputFile) -> Iterator[Segment]:
    """The items of a file that is taken over whole, and what lies between them.

    Items that overlap are each given, so that the checksums of both are compared.
    """
    position = 0
    for item in file.segments:
        if item.at > position:
            yield _between(file, position, item.at)
        yield item
        position = max(position, item.at + item.length)
    if position < file.size:
        yield _between(file, position, file.size)


def _between(file: OutputFile, start: int, stop: int) -> CopyItem:
    return CopyItem(start, stop - start, file.source, start, "none", (), file.name)
