"""A run directory: its saves, newest first, and what is odd about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dcpctl.inspect.runs import Save, find_resets
from dcpctl.reports import words
from dcpctl.reports.blocks import (
    DIM,
    NAME,
    STRONG,
    WARN,
    Block,
    Column,
    Heading,
    Line,
    Paragraph,
    Span,
    Table,
)
from dcpctl.reports.summary_blocks import TONES


def run_blocks(path: str, saves: Sequence[Save]) -> Iterator[Block]:
    """Say a listing."""
    yield Heading(
        (Span(path, STRONG), Span(f"  {words.count(len(saves), 'save')}, newest first")), 1
    )
    yield Table(
        [
            Column("step", right=True),
            Column("save", folds=True),
            Column("optimizer"),
            Column("kind", folds=True),
            Column("its step", right=True),
            Column("keys", right=True),
            Column("bytes", right=True),
        ],
        [_row(save) for save in saves],
    )
    for save in saves:
        if save.error is not None:
            yield Paragraph((Span(save.path.name, NAME), Span(f": {save.sentence}")))
    resets = find_resets(saves)
    for newer, older in resets:
        yield Paragraph(
            (
                Span(newer.path.name, NAME),
                Span(
                    f": the optimizer was reset after {older.path.name}; it is at step "
                    f"{words.step(newer.steps[-1])}, and was at "
                    f"{words.step(older.steps[-1])} in the save before",
                    WARN,
                ),
            )
        )
    yield from _newest("Newest complete save", saves)
    if resets:
        oldest = resets[-1][1]
        yield from _newest("Newest before the reset", saves[saves.index(oldest) :])


def _newest(label: str, saves: Sequence[Save]) -> Iterator[Block]:
    newest = next((save for save in saves if save.verdict == "complete"), None)
    if newest is not None:
        yield Paragraph((Span(f"{label}: "), Span(str(newest.path), NAME)))


def _row(save: Save) -> list[Line]:
    readable = save.error is None
    return [
        str(save.step),
        Span(save.path.name, NAME),
        Span(save.verdict, TONES.get(save.verdict, "")),
        save.kind or Span("-", DIM),
        ", ".join(words.step(step) for step in save.steps[:2]) if save.steps else "",
        f"{save.keys:,}" if readable else "",
        words.size(save.nbytes) if readable else "",
    ]
