"""One tensor's layout in both checkpoints as a picture: which rank holds which box.

Both pictures have one scale, so that what lies side by side is the same part of the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcpctl.diff.subject import Subject
from dcpctl.errors import NothingSelected, quote
from dcpctl.model.entry import TensorEntry

Int64s = NDArray[np.int64]

#: Most boxes along one side of a picture; more are listed.
_MOST_ROWS, _MOST_COLUMNS = 64, 16


@dataclass(frozen=True, slots=True)
class OwnedBox:
    """A chunk and the rank whose file holds it.

    Attributes:
        starts: first element per dimension.
        stops: past-the-end element per dimension.
        rank: None where the file's name tells none, or no file holds it.
    """

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    rank: int | None


@dataclass(frozen=True, slots=True)
class TensorMap:
    """Who owns what of one tensor.

    Attributes:
        fqn: its key.
        shape: elements per dimension.
        dtype: torch's name.
        words: its layout in words.
        boxes: its chunks that hold elements, in metadata order.
    """

    fqn: str
    shape: tuple[int, ...]
    dtype: str
    words: str
    boxes: tuple[OwnedBox, ...]


@dataclass(frozen=True, slots=True)
class LayoutMap:
    """One tensor in both checkpoints.

    Attributes:
        a: as A has it; None if A lacks it.
        b: as B has it; None if B lacks it.
    """

    a: TensorMap | None
    b: TensorMap | None

    @property
    def same(self) -> bool:
        """Whether both have it, and every rank the same boxes of it."""
        if self.a is None or self.b is None or self.a.shape != self.b.shape:
            return False
        return set(self.a.boxes) == set(self.b.boxes)


def layout_map(a: Subject, b: Subject, fqn: str, renamed: Sequence[tuple[str, str]]) -> LayoutMap:
    """Return who owns what of a tensor.

    Args:
        a: one.
        b: the other.
        fqn: its key in either of them.
        renamed: keys in A and in B of what has two names.

    Raises:
        NothingSelected: neither has a tensor of that key.
    """
    in_a = next((old for old, new in renamed if new == fqn), fqn)
    in_b = next((new for old, new in renamed if old == fqn), fqn)
    made = LayoutMap(_mapped(a, in_a), _mapped(b, in_b))
    if made.a is None and made.b is None:
        raise NothingSelected(
            f"neither checkpoint has a tensor {quote(fqn)}",
            hint="dcpctl inspect --keys lists the keys",
        )
    return made


def _mapped(subject: Subject, fqn: str) -> TensorMap | None:
    entry = subject.tensors.get(fqn)
    if entry is None:
        return None
    words = subject.layouts.of[fqn].words
    return TensorMap(fqn, entry.shape, entry.dtype, words, tuple(_boxes(subject, entry)))


def _boxes(subject: Subject, entry: TensorEntry) -> list[OwnedBox]:
    files = subject.checkpoint.files
    return [
        OwnedBox(
            chunk.offsets,
            tuple(start + size for start, size in zip(chunk.offsets, chunk.sizes, strict=True)),
            files[chunk.file].rank if chunk.file >= 0 else None,
        )
        for chunk in entry.chunks
        if 0 not in chunk.sizes
    ]


def drawing(made: LayoutMap, *, rows: int = 16, columns: int = 24) -> list[str] | None:
    """Draw both sides beside each other in ASCII; None where a table must do.

    Args:
        made: what to draw.
        rows: lines that the first split dimension takes, if its boxes do not need more.
        columns: characters of one side that the second takes, likewise.
    """
    sides = [side for side in (made.a, made.b) if side is not None]
    shapes = {side.shape for side in sides}
    if len(shapes) != 1 or 0 in sides[0].shape:
        return None
    shape = sides[0].shape
    split = _split_dims(sides, shape)
    if len(split) > 2:
        return None
    first = split[0] if split else None
    second = split[1] if len(split) > 1 else None
    down = _scale(sides, shape, first, rows, least=2)
    across = _scale(sides, shape, second, columns, least=8)
    if len(down) > _MOST_ROWS or len(across) > _MOST_COLUMNS:
        return None
    pictures = [_picture(side, first, second, down, across) for side in (made.a, made.b) if side]
    return _beside(pictures, first, down)


def _split_dims(sides: Sequence[TensorMap], shape: tuple[int, ...]) -> list[int]:
    return [
        dim
        for dim, size in enumerate(shape)
        if any((box.starts[dim], box.stops[dim]) != (0, size) for s in sides for box in s.boxes)
    ]


def _scale(
    sides: Sequence[TensorMap], shape: tuple[int, ...], dim: int | None, room: int, *, least: int
) -> dict[int, int]:
    """Each boundary of a box along one dimension, and the line or column that it is drawn on."""
    if dim is None:
        return {0: 0, 1: max(least, room // 4 if least == 2 else room)}
    cuts = {0, shape[dim]}
    for side in sides:
        for box in side.boxes:
            cuts |= {box.starts[dim], box.stops[dim]}
    places: dict[int, int] = {}
    last = -least
    for cut in sorted(cuts):
        last = max(last + least, round(cut * room / shape[dim]))
        places[cut] = last
    return places


def _picture(
    side: TensorMap,
    first: int | None,
    second: int | None,
    down: dict[int, int],
    across: dict[int, int],
) -> list[str]:
    """One side: boxes drawn with `+-|`, in each the rank."""
    height, width = max(down.values()) + 1, max(across.values()) + 1
    grid = [[" "] * width for _ in range(height)]
    for box in side.boxes:
        top, bottom = _span(box, first, down)
        start, stop = _span(box, second, across)
        for column in range(start, stop + 1):
            for row in (top, bottom):
                grid[row][column] = "+" if column in (start, stop) else _over(grid[row][column])
        for row in range(top + 1, bottom):
            grid[row][start] = grid[row][stop] = "|"
        label = "?" if box.rank is None else f"rank {box.rank}"
        inside = stop - start - 1
        label = label if len(label) <= inside else label.removeprefix("rank ")
        middle, left = (top + bottom) // 2, start + 1 + max(0, (inside - len(label)) // 2)
        if bottom - top > 1:
            grid[middle][left : left + len(label)] = label
    return ["".join(line) for line in grid]


def _over(drawn: str) -> str:
    return "+" if drawn == "+" else "-"


def _span(box: OwnedBox, dim: int | None, places: dict[int, int]) -> tuple[int, int]:
    if dim is None:
        return min(places.values()), max(places.values())
    return places[box.starts[dim]], places[box.stops[dim]]


def _beside(pictures: Sequence[list[str]], first: int | None, down: dict[int, int]) -> list[str]:
    """Pictures side by side, the boundaries of the first split dimension at the left."""
    labels = {line: str(cut) for cut, line in down.items()} if first is not None else {}
    margin = max(map(len, labels.values()), default=0)
    return [
        "   ".join((labels.get(number, "").rjust(margin), *parts)).rstrip()
        for number, parts in enumerate(zip(*pictures, strict=True))
    ]
