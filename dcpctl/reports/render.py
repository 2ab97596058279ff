"""The formats that every report comes in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from dcpctl.reports.blocks import Block

TEXT, TABLE, JSON, MARKDOWN = "text", "table", "json", "markdown"


def render(
    blocks: Iterable[Block], stream: TextIO, *, form: str, color: bool, table_style: str
) -> None:
    """Print blocks in a format.

    Args:
        blocks: what to print.
        stream: where to.
        form: `text`, `table` or `markdown`; each is imported only when it is asked for.
        color: for `text`.
        table_style: tabulate's style, for `table`.

    Raises:
        UsageError: tabulate has no such style.
    """
    if form == MARKDOWN:
        from dcpctl.reports import markdown

        markdown.write(blocks, stream)
    elif form == TABLE:
        from dcpctl.reports import tabulated

        tabulated.write(blocks, stream, style=table_style)
    else:
        from dcpctl.reports import text

        text.write(blocks, stream, color=color)
