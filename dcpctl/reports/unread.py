"""What was not looked at and why, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from dcpctl.errors import listed, printable
from dcpctl.reports import words
from dcpctl.reports.blocks import BAD, NAME, WARN, Paragraph, Span

_MOST_UNREAD = 3


def unread_block(unread: dict[Path, str]) -> Paragraph:
    """Say which directories were not looked at."""
    shown = "; ".join(f"{path} ({why})" for path, why in [*unread.items()][:_MOST_UNREAD])
    more = len(unread) - _MOST_UNREAD
    count = words.count(len(unread), "directory", "directories")
    tail = f"; and {more:,} more" if more > 0 else ""
    return Paragraph(Span(f"{count} not looked at: {shown}{tail}", WARN))


def not_compared(lost: Iterable[tuple[str, str]]) -> Iterator[Paragraph]:
    """Say which keys were not compared, and why: a sentence for each reason."""
    by_reason: dict[str, list[tuple[str, str]]] = {}
    for key, why in lost:
        by_reason.setdefault(why.replace(key, ""), []).append((key, why))
    for members in by_reason.values():
        keys = [key for key, _ in members]
        named = printable(keys[0])
        if len(keys) > 1:
            named = f"{len(keys):,} keys ({listed(keys, 3, show=printable)})"
        were = "was" if len(keys) == 1 else "were"
        yield Paragraph((Span(named, NAME), Span(f" {were} not compared: {members[0][1]}", BAD)))
