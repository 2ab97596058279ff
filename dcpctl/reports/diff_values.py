"""Tensors of other numbers, for people."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dcpctl.diff.contents import MOST_ITEMS, Contents
from dcpctl.diff.difference import Difference
from dcpctl.diff.values import ValueDifference
from dcpctl.reports import words
from dcpctl.reports.blocks import (
    BAD,
    DIM,
    NAME,
    Block,
    Column,
    Heading,
    Line,
    Paragraph,
    Span,
    Table,
)
from dcpctl.reports.unread import not_compared

_MOST_ROWS = 20


def contents_blocks(found: Difference) -> Iterator[Block]:
    """Say which tensors hold other numbers; those that were read, by how much."""
    contents = found.contents
    if contents is None:
        return
    if contents.different:
        many = f"{len(contents.different):,} of {words.count(contents.tensors, 'tensor')}"
        yield Heading(f"other numbers in {many}")
        if contents.read:
            if len(contents.different) > _MOST_ROWS:
                yield _pooled(found, contents)
            yield from _measured(contents)
        else:
            yield Table(
                [
                    Column("key", folds=True),
                    Column("tensors", right=True),
                    Column("of", right=True),
                ],
                [
                    (Span(group.words, NAME), f"{len(group.keys):,}", f"{group.of:,}")
                    for group in found.rewritten[:_MOST_ROWS]
                ],
            )
            yield Paragraph(Span("Told by checksums; --values reads by how much they differ.", DIM))
    yield from not_compared((u.a, u.failure.message) for u in contents.unread if u.failure)


def contents_words(found: Difference) -> Iterator[str]:
    """Say how many tensors are equal, and of how many nothing is known."""
    contents = found.contents
    if contents is None or not contents.tensors:
        return
    if contents.equal:
        how = " by their checksums" if contents.equal == contents.proven else ""
        if 0 < contents.proven < contents.equal:
            how = f", {contents.proven:,} of them by their checksums"
        within = f" within {found.options.tolerance:g}" if found.options.tolerance else ""
        yield f"Equal numbers{within} in {words.count(contents.equal, 'tensor')}{how}."
    if contents.unknown:
        why = f" (over {MOST_ITEMS:,} items)" if contents.too_many else ""
        yield (
            f"The numbers of {words.count(len(contents.unknown), 'tensor')} were not "
            f"compared{why}; --values reads them."
        )


def _pooled(found: Difference, contents: Contents) -> Table:
    """A row for all of the model, for each slot of the optimizer, and so on."""
    by_key = {one.a: one for one in contents.different}
    rows: list[tuple[Line, ...]] = []
    for group in found.rewritten:
        members = [by_key[fqn] for fqn in group.keys]
        distance = math.hypot(*(one.distance for one in members))
        norm = math.hypot(*(one.norm_a for one in members))
        largest = max((one.max_abs for one in members if one.max_abs is not None), default=None)
        rows.append(
            (
                Span(group.words, NAME),
                f"{len(members):,}",
                f"{group.of:,}",
                _number(largest),
                _number(distance / norm if norm else math.inf),
            )
        )
    columns = [Column("together", folds=True)]
    columns += [Column(n, right=True) for n in ("tensors", "of", "max abs", "relative L2")]
    return Table(columns, rows[:_MOST_ROWS])


def _measured(contents: Contents) -> Iterator[Block]:
    ranked = sorted(contents.different, key=_weight, reverse=True)
    yield Table(
        [
            Column("key", folds=True),
            Column("max abs", right=True),
            Column("relative L2", right=True),
            Column("cosine", right=True),
            Column("unequal", right=True),
            Column("of", right=True),
        ],
        [_value_row(one) for one in ranked[:_MOST_ROWS]],
    )
    if len(ranked) > _MOST_ROWS:
        yield Paragraph(Span(f"{len(ranked) - _MOST_ROWS:,} more; --json has all", DIM))


def _weight(one: ValueDifference) -> float:
    """NaN and infinities first: there is no worse difference."""
    return math.inf if one.nonfinite else one.relative_l2


def _value_row(one: ValueDifference) -> tuple[Line, ...]:
    name: Line = Span(one.a, NAME)
    if one.nonfinite:
        name = (Span(one.a, NAME), Span(f"  {one.nonfinite:,} NaN or infinite in one", BAD))
    return (
        name,
        _number(one.max_abs),
        "-" if one.max_abs is None else _number(one.relative_l2),
        _number(one.cosine),
        f"{one.unequal:,}",
        f"{one.numel:,}",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
