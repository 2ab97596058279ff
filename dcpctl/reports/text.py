"""Blocks as text for a terminal, with Rich's styles.

Tables are laid out here and not by `rich.table`, which takes seconds for the keys of a model. Names
are cut nowhere: a column that folds gives all of its text on further lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from dcpctl.errors import printable
from dcpctl.reports.blocks import (
    BAD,
    DIM,
    GOOD,
    NAME,
    PLAIN,
    STRONG,
    WARN,
    Block,
    Facts,
    Heading,
    Line,
    Literal,
    Node,
    Paragraph,
    Span,
    Table,
    Tree,
    disarmed,
    plain,
    spans,
)
from dcpctl.reports.console import PROSE, make_console, width_of
from dcpctl.reports.text_table import fold, lay_out

if TYPE_CHECKING:
    from rich.text import Text

_STYLES = {
    PLAIN: "",
    STRONG: "bold",
    DIM: "dim",
    GOOD: "green",
    WARN: "yellow",
    BAD: "bold red",
    NAME: "cyan",
}
_INDENT = 2
_ASCII = str.maketrans("─├└│", "-|`|")


def write(blocks: Iterable[Block], stream: TextIO, *, color: bool) -> None:
    """Print blocks.

    Args:
        blocks: what to print.
        stream: where to; where neither it nor COLUMNS says how wide it is, a row of a table is one
            line for `grep`, unless it holds sentences, and no path or name is broken.
        color: with colours, or without a single escape code.
    """
    width = width_of(stream)
    console = make_console(stream, color=True, width=width or PROSE) if color else None
    drawn = _draws_lines(stream)
    before: Block | None = None
    for block in blocks:
        if before is not None and not (isinstance(before, Heading) and before.level > 1):
            stream.write("\n")
        for line in _lines(block, width):
            line = line if drawn else _in_ascii(line)
            if console is not None:
                console.print(_styled(line), no_wrap=True, crop=False, overflow="ignore")
            else:
                stream.write(disarmed(plain(line).rstrip()) + "\n")
        before = block


def _styled(line: Line) -> Text:
    from rich.text import Text

    merged: list[Span] = []
    for span in spans(line):
        if merged and merged[-1].tone == span.tone:
            merged[-1] = Span(merged[-1].text + span.text, span.tone)
        elif span.text:
            merged.append(span)
    styled = Text.assemble(*((span.text, _STYLES[span.tone]) for span in merged))
    styled.rstrip()
    return styled


def _in_ascii(line: Line) -> tuple[Span, ...]:
    """The line with our own rules and branches drawn in ASCII; names keep their characters."""
    return tuple(Span(span.text.translate(_ASCII), span.tone) for span in spans(line))


def _draws_lines(stream: TextIO) -> bool:
    try:
        "─├└│".encode(stream.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _lines(block: Block, width: int | None) -> Iterator[Line]:
    room = (width or PROSE) - _INDENT
    if isinstance(block, Heading):
        yield from _heading(block, width)
    elif isinstance(block, Paragraph):
        yield from _indented(fold(_safe(block.line), room, whole=width is None))
    elif isinstance(block, Facts):
        yield from _facts(block, room, whole=width is None)
    elif isinstance(block, Table):
        rows = [[_safe(cell) for cell in row] for row in block.rows]
        yield from _indented(lay_out(block.columns, rows, width and room, room))
    elif isinstance(block, Tree):
        for root in block.roots:
            yield from _tree(root, " " * _INDENT, " " * _INDENT)
    elif isinstance(block, Literal):
        for line in block.text.split("\n"):
            yield " " * _INDENT + printable(line)


def _heading(block: Heading, width: int | None) -> Iterator[Line]:
    bold = tuple(Span(s.text, STRONG if s.tone == PLAIN else s.tone) for s in _safe(block.line))
    yield from fold(bold, width or PROSE, whole=width is None)


def _facts(block: Facts, room: int, *, whole: bool) -> Iterator[Line]:
    label_width = max((len(label) for label, _ in block.rows), default=0)
    for label, line in block.rows:
        margin = label_width + 2 if room - label_width > 20 else _INDENT
        folded = fold(_safe(line), room - margin, whole=whole)
        if margin == _INDENT:
            yield Span(" " * _INDENT + label, DIM)
            yield from _indented(folded, 2 * _INDENT)
            continue
        first = Span(" " * _INDENT + label.ljust(margin), DIM)
        for number, part in enumerate(folded):
            yield (first, *part) if number == 0 else (Span(" " * (_INDENT + margin)), *part)


def _tree(node: Node, first: str, rest: str) -> Iterator[Line]:
    yield (Span(first, DIM), *_safe(node.line))
    for number, child in enumerate(node.children):
        last = number == len(node.children) - 1
        yield from _tree(
            child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  ")
        )


def _indented(lines: Iterable[Sequence[Span]], by: int = _INDENT) -> Iterator[Line]:
    for line in lines:
        yield (Span(" " * by), *line)


def _safe(line: Line) -> tuple[Span, ...]:
    """The line without anything that a terminal would act on."""
    return tuple(Span(printable(span.text), span.tone) for span in spans(line))
