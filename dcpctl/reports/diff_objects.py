"""Objects of another value, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dcpctl.diff.difference import Difference
from dcpctl.diff.equality import equal_values
from dcpctl.reports import values_text, words
from dcpctl.reports.blocks import (
    DIM,
    NAME,
    Block,
    Column,
    Heading,
    Paragraph,
    Span,
    Table,
)
from dcpctl.reports.unread import not_compared

_MOST_ROWS = 20
#: Levels of containers that are opened to show what differs.
_DEEPEST = 4


def object_blocks(found: Difference) -> Iterator[Block]:
    """Say the objects that differ, but for what the param groups already tell."""
    if found.objects is None:
        return
    shown = found.objects_apart
    if shown:
        yield Heading(f"{words.count(len(shown), 'object')} of another value")
        yield Table(
            [Column("key", folds=True), Column("in A", folds=True), Column("in B", folds=True)],
            [
                (Span(change.fqn_a, NAME), *values_apart(change.a, change.b))
                for change in shown[:_MOST_ROWS]
            ],
        )
        if len(shown) > _MOST_ROWS:
            yield Paragraph(Span(f"{len(shown) - _MOST_ROWS:,} more; --json has all", DIM))
    yield from not_compared((lost.fqn_a, lost.error.message) for lost in found.objects.unread)


def values_apart(a: Any, b: Any, depth: int = 0) -> tuple[str, str]:
    """Two values that differ as texts that do: where they are long, what first differs in them."""
    one, other = values_text.short(a), values_text.short(b)
    if one != other and not (one.endswith("...") and other.endswith("...")):
        return one, other
    if isinstance(a, float) and isinstance(b, float):
        return repr(a), repr(b)
    if depth < _DEEPEST and isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            return words.count(len(a), "item"), words.count(len(b), "item")
        return _inside(enumerate(a), dict(enumerate(b)), depth) or (one, other)
    if depth < _DEEPEST and isinstance(a, Mapping) and isinstance(b, Mapping):
        if a.keys() != b.keys():
            return words.count(len(a), "key"), words.count(len(b), "key")
        return _inside(a.items(), b, depth) or (one, other)
    return one, other


def _inside(parts: Any, others: Mapping[Any, Any], depth: int) -> tuple[str, str] | None:
    """The first part that differs, with its place."""
    for key, part in parts:
        if equal_values(part, others[key]) is False:
            place = values_text.short(key)
            one, other = values_apart(part, others[key], depth + 1)
            return f"[{place}]: {one}", f"[{place}]: {other}"
    return None
