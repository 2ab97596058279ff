"""Blocks as GitHub-flavoured Markdown, for a pull request or a job summary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TextIO

from dcpctl.errors import printable
from dcpctl.reports.blocks import (
    NAME,
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
    spans,
)

# What Markdown or the HTML in it would read as its own; as entities it is only itself.
_SPECIAL = re.compile(r"[&<>|`*_\[\]~@#!\\$]")


def write(blocks: Iterable[Block], stream: TextIO) -> None:
    """Print blocks as Markdown."""
    first = True
    for block in blocks:
        if not first:
            stream.write("\n")
        first = False
        stream.writelines(disarmed(line) + "\n" for line in _lines(block))


def escape(text: str) -> str:
    """Return text that Markdown and HTML show as it is, whatever is in it."""
    return _SPECIAL.sub(_entity, printable(text))


def _entity(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};"


def _lines(block: Block) -> Iterator[str]:
    if isinstance(block, Heading):
        # Two blanks set its parts off from each other, and HTML would make them one.
        yield f"{'#' * (block.level + 1)} {_inline(block.line).replace('  ', '&emsp;')}"
    elif isinstance(block, Paragraph):
        yield _inline(block.line)
    elif isinstance(block, Facts):
        for label, line in block.rows:
            yield f"- {escape(label)}: {_inline(line)}"
    elif isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Literal):
        lines = [printable(line) for line in block.text.split("\n")]
        runs = (len(run) for line in lines for run in re.findall("`+", line))
        fence = "`" * max(3, 1 + max(runs, default=0))
        yield from (fence, *lines, fence)
    else:
        for root in block.roots:
            yield from _tree(root, "")


def _table(block: Table) -> Iterator[str]:
    yield f"| {' | '.join(escape(column.name) for column in block.columns)} |"
    yield f"|{'|'.join('---:' if column.right else '---' for column in block.columns)}|"
    for row in block.rows:
        yield f"| {' | '.join(_inline(cell) for cell in row)} |"


def _tree(node: Node, indent: str) -> Iterator[str]:
    yield f"{indent}- {_inline(node.line)}"
    for child in node.children:
        yield from _tree(child, indent + "  ")


def _inline(line: Line) -> str:
    """Names as code, which HTML's `<code>` can hold whatever they contain; the rest as text."""
    parts = [
        f"<code>{escape(span.text)}</code>" if span.tone == NAME else escape(span.text)
        for span in spans(line)
        if span.text
    ]
    return "".join(parts) or escape(plain(line))
