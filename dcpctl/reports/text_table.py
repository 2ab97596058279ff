"""Laying out tables and paragraphs in columns of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, chop_cells

from dcpctl.reports.blocks import DIM, Column, Span

Spans = tuple[Span, ...]

_GAP = 2
#: A folding column is not made narrower than this; rather every row becomes a paragraph.
_LEAST = 20


def lay_out(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Spans]],
    width: int | None,
    prose: int,
) -> Iterator[Spans]:
    """Yield the lines of a table.

    Args:
        columns: the columns.
        rows: cells, safe to print.
        width: columns of the terminal; None for as many as needed.
        prose: columns that sentences are folded to where `width` is None.
    """
    natural = [
        max([cell_len(column.name), *(_width(row[number]) for row in rows)])
        for number, column in enumerate(columns)
    ]
    folding = [number for number, column in enumerate(columns) if column.folds]
    if width is None:
        sentences = [number for number, column in enumerate(columns) if column.prose]
        widths = natural
        if sentences:
            widths = _fit(natural, prose, sentences) or _fit(natural, prose, folding) or natural
    else:
        fitted = _fit(natural, width, folding)
        if fitted is None:
            yield from _stacked(columns, rows, width)
            return
        widths = fitted
    header = tuple((Span(column.name, DIM),) for column in columns)
    yield from _row(columns, header, widths)
    yield (Span("─" * (sum(widths) + _GAP * (len(widths) - 1)), DIM),)
    for row in rows:
        yield from _row(columns, row, widths)


def _fit(natural: Sequence[int], width: int, folding: Sequence[int]) -> list[int] | None:
    """Widths that fit, the widest of the folding columns made narrower; None if none do."""
    widths = list(natural)
    excess = sum(widths) + _GAP * (len(widths) - 1) - width
    while excess > 0:
        able = [number for number in folding if widths[number] > _LEAST]
        if not able:
            return None
        widest = max(able, key=lambda number: widths[number])
        others = [widths[number] for number in able if widths[number] < widths[widest]]
        down_to = max([_LEAST, *others])
        step = min(excess, max(1, widths[widest] - down_to))
        widths[widest] -= step
        excess -= step
    return widths


def _row(columns: Sequence[Column], row: Sequence[Spans], widths: Sequence[int]) -> Iterator[Spans]:
    cells = [
        fold(cell, width) if _width(cell) > width else [cell]
        for column, cell, width in zip(columns, row, widths, strict=True)
    ]
    for number in range(max(len(cell) for cell in cells)):
        line: list[Span] = []
        for column, cell, width in zip(columns, cells, widths, strict=True):
            part = cell[number] if number < len(cell) else ()
            gap = " " * (_GAP if line else 0)
            blank = " " * (width - _width(part))
            line += [Span(gap + blank), *part] if column.right else [Span(gap), *part, Span(blank)]
        yield tuple(line)


def _stacked(
    columns: Sequence[Column], rows: Sequence[Sequence[Spans]], width: int
) -> Iterator[Spans]:
    """Rows as paragraphs, for a terminal too narrow for the table."""
    for row in rows:
        yield from fold(row[0], width)
        rest: list[Span] = []
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if any(span.text for span in cell):
                rest += [Span(", " if rest else ""), Span(column.name + " ", DIM), *cell]
        for line in fold(tuple(rest), width - 2):
            yield (Span("  "), *line)


def fold(line: Spans, width: int, *, whole: bool = False) -> list[Spans]:
    """Wrap spans to `width` terminal columns, at blanks where there are any.

    Words longer than a line are broken after a dot, a slash or an underscore, else anywhere; with
    `whole` they stay whole, and their lines are longer.
    """
    if _width(line) <= width:
        return [line]
    lines: list[list[Span]] = [[]]
    used = 0
    for word, tone in _words(line):
        length = cell_len(word)
        if used + length > width and used and not word.isspace():
            lines.append([])
            used = 0
        if not used and word.isspace() and len(lines) > 1:
            continue
        for part in [word] if whole or length <= width else _chop(word, width):
            if used and used + cell_len(part) > width and not part.isspace():
                lines.append([])
                used = 0
            lines[-1].append(Span(part, tone))
            used += cell_len(part)
    return [tuple(made) for made in lines]


def _words(line: Spans) -> Iterator[tuple[str, str]]:
    for span in line:
        word = ""
        for char in span.text:
            if word and (char == " ") != (word[-1] == " "):
                yield word, span.tone
                word = ""
            word += char
        if word:
            yield word, span.tone


def _chop(word: str, width: int) -> Iterator[str]:
    # Only a little of the word is looked at for each part: a name may have a million characters.
    start, ahead = 0, 4 * width + 1
    while start + ahead < len(word) or cell_len(word[start:]) > width:
        near = word[start : start + ahead]
        head = chop_cells(near, width)[0] or near[0]
        cut = max(head.rfind(mark) for mark in "./_") + 1
        head = head[:cut] if cut > len(head) // 2 else head
        yield head
        start += len(head)
    yield word[start:]


def _width(line: Sequence[Span]) -> int:
    return sum(cell_len(span.text) for span in line)
