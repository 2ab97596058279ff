"""Where was not looked, for people: of a listing of runs and of a check of them."""

from __future__ import annotations

from pathlib import Path

from dcpctl.reports import words
from dcpctl.reports.blocks import WARN, Paragraph, Span

_MOST_UNREAD = 3


def unread_block(unread: dict[Path, str]) -> Paragraph:
    """Say which directories were not looked at."""
    shown = "; ".join(f"{path} ({why})" for path, why in [*unread.items()][:_MOST_UNREAD])
    more = len(unread) - _MOST_UNREAD
    count = words.count(len(unread), "directory", "directories")
    tail = f"; and {more:,} more" if more > 0 else ""
    return Paragraph(Span(f"{count} not looked at: {shown}{tail}", WARN))
