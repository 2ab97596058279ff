"""Blocks through tabulate: `--format table`, in any of its styles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TextIO

from dcpctl.errors import UsageError, printable, quote
from dcpctl.reports.blocks import (
    Block,
    Facts,
    Heading,
    Line,
    Literal,
    Node,
    Paragraph,
    Table,
    disarmed,
    plain,
)

DEFAULT_STYLE = "simple"


def write(blocks: Iterable[Block], stream: TextIO, *, style: str = DEFAULT_STYLE) -> None:
    """Print blocks, every one of them that can be as a table.

    Raises:
        UsageError: tabulate has no such style.
    """
    import tabulate

    if style not in tabulate.tabulate_formats:
        raise UsageError(
            f"no table style {quote(style)}", hint=f"one of {', '.join(tabulate.tabulate_formats)}"
        )
    first = True
    for block in blocks:
        if not first:
            stream.write("\n")
        first = False
        if isinstance(block, (Table, Facts)):
            text = tabulate.tabulate(
                [[_safe(cell) for cell in row] for row in block.rows],
                headers=[c.name for c in block.columns] if isinstance(block, Table) else (),
                tablefmt=style,
                disable_numparse=True,
                colalign=_alignment(block),
            )
            lines: Iterable[str] = text.split("\n")
        else:
            lines = _lines(block)
        stream.writelines(disarmed(line) + "\n" for line in lines)


def _alignment(block: Table | Facts) -> tuple[str, ...] | None:
    if isinstance(block, Facts) or not block.rows:
        return None
    return tuple("right" if column.right else "left" for column in block.columns)


def _lines(block: Block) -> Iterator[str]:
    if isinstance(block, (Heading, Paragraph)):
        yield _safe(block.line)
    elif isinstance(block, Literal):
        yield from map(printable, block.text.split("\n"))
    elif not isinstance(block, (Table, Facts)):
        for root in block.roots:
            yield from _tree(root, "")


def _tree(node: Node, indent: str) -> Iterator[str]:
    yield indent + _safe(node.line)
    for child in node.children:
        yield from _tree(child, indent + "  ")


def _safe(line: Line) -> str:
    return printable(plain(line))
