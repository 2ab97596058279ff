"""One tensor's layout in two checkpoints, for people: a picture, or a table of its boxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dcpctl.diff.layout_map import LayoutMap, OwnedBox, TensorMap, drawing
from dcpctl.reports import words
from dcpctl.reports.blocks import (
    DIM,
    NAME,
    Block,
    Column,
    Facts,
    Heading,
    Line,
    Literal,
    Paragraph,
    Span,
    Table,
)

_MOST_ROWS = 256


def map_blocks(a: Path, b: Path, found: LayoutMap) -> Iterator[Block]:
    """Say who owns what."""
    sides = [side for side in (found.a, found.b) if side is not None]
    yield Heading((Span(sides[0].fqn, NAME), Span(f"  {_spec(sides[0])}")), level=1)
    yield Facts([("A", _side(a, found.a, sides[0])), ("B", _side(b, found.b, sides[0]))])
    drawn = drawing(found)
    if drawn is not None:
        if len(sides) == 2:
            yield Paragraph(Span("A is at the left, B at the right, in one scale.", DIM))
        yield Literal("\n".join(drawn))
        return
    for name, side in (("A", found.a), ("B", found.b)):
        if side is not None:
            yield Heading(name)
            yield from _table(side)


def _side(path: Path, side: TensorMap | None, first: TensorMap) -> Line:
    if side is None:
        return (Span(str(path), NAME), Span("  has no such tensor"))
    said = side.words
    if side.fqn != first.fqn:
        said += f", as {side.fqn}"
    if (side.shape, side.dtype) != (first.shape, first.dtype):
        said += f", {_spec(side)}"
    return (Span(str(path), NAME), Span(f"  {said}"))


def _spec(side: TensorMap) -> str:
    return f"{side.dtype} {words.shape(side.shape)}"


def _table(side: TensorMap) -> Iterator[Block]:
    yield Table(
        [Column("rank", right=True), Column("elements", folds=True)],
        [_row(box) for box in side.boxes[:_MOST_ROWS]],
    )
    if len(side.boxes) > _MOST_ROWS:
        yield Paragraph(Span(f"{len(side.boxes) - _MOST_ROWS:,} more; --json has all", DIM))


def _row(box: OwnedBox) -> tuple[Line, ...]:
    spans = (f"{start}:{stop}" for start, stop in zip(box.starts, box.stops, strict=True))
    return ("?" if box.rank is None else str(box.rank), f"[{', '.join(spans)}]")
