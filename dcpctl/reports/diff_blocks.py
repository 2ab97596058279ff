"""What `diff` found, for people: what a load would lose first, then what differs, then the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dcpctl.diff.difference import Difference
from dcpctl.diff.layouts import MOVED, SAME, LayoutDifference
from dcpctl.diff.options import (
    CONTENTS,
    KEYS,
    LAYOUT,
    OBJECTS,
    OPTIMIZER,
    SHAPES,
    VALUES,
)
from dcpctl.diff.subject import Side
from dcpctl.reports import words
from dcpctl.reports.blocks import (
    DIM,
    GOOD,
    NAME,
    STRONG,
    WARN,
    Block,
    Column,
    Facts,
    Heading,
    Line,
    Paragraph,
    Span,
    Table,
)
from dcpctl.reports.diff_keys import key_blocks, spec_blocks
from dcpctl.reports.diff_load import load_blocks
from dcpctl.reports.diff_objects import object_blocks
from dcpctl.reports.diff_optimizer import optimizer_blocks
from dcpctl.reports.diff_values import contents_blocks, contents_words

MOST_ROWS = 20

_NOUNS = {
    KEYS: ("key", "keys"),
    SHAPES: ("shape or dtype", "shapes or dtypes"),
    OBJECTS: ("object", "objects"),
}


def diff_blocks(found: Difference) -> Iterator[Block]:
    """Say a difference."""
    yield Heading(tuple(_outcome(found)), level=1)
    yield Facts([("A", _side(found.a)), ("B", _side(found.b))])
    yield from load_blocks(found)
    if found.layout is not None and found.layout.changed:
        yield from _layout(found.layout)
    if KEYS in found.counts:
        yield from key_blocks(found)
    yield from spec_blocks(found)
    if found.optimizer is not None and found.optimizer.changed:
        yield from optimizer_blocks(found.optimizer)
    yield from object_blocks(found)
    yield from contents_blocks(found)
    closing = " ".join(_closing(found))
    if closing:
        yield Paragraph(Span(closing, DIM))


def _outcome(found: Difference) -> Iterator[Span]:
    if found.same:
        yield Span("the same", GOOD)
        yield Span(" in all that was compared")
        return
    yield Span("different", WARN)
    yield Span(": " + ", ".join(_parts(found.counts)))


def _parts(counts: Mapping[str, int]) -> Iterator[str]:
    """What differs, a clause each."""
    for aspect, number in counts.items():
        if not number:
            continue
        if aspect == LAYOUT:
            yield f"the layout of {words.count(number, 'tensor')}"
        elif aspect == OPTIMIZER:
            yield "the optimizer"
        elif aspect in (CONTENTS, VALUES):
            yield f"the numbers of {words.count(number, 'tensor')}"
        else:
            yield words.count(number, *_NOUNS[aspect])


def _side(side: Side) -> Line:
    said = f"  {words.count(side.keys, 'key')}, {words.size(side.nbytes)} of numbers"
    return (Span(str(side.path), NAME), Span(said, DIM))


def _layout(layout: LayoutDifference) -> Iterator[Block]:
    total = sum(len(group.pairs) for group in layout.groups)
    yield Heading(f"layout of {layout.changed:,} of {words.count(total, 'tensor')}")
    one, other = layout.load_a, layout.load_b
    rows: list[tuple[str, Line]] = []
    if layout.a != layout.b:
        rows.append(("overall", _arrow(layout.a, layout.b)))
    if (one.ranks, one.files) != (other.ranks, other.files):
        ranks = (f"{load.ranks} in {words.count(load.files, 'file')}" for load in (one, other))
        rows.append(("ranks", _arrow(*ranks)))
    balance = [f"{load.imbalance:.2f}" for load in (one, other)]
    if balance[0] != balance[1]:
        rows.append(("fullest rank", (*_arrow(*balance), Span(" times the mean"))))
    if rows:
        yield Facts(rows)
    yield Table(
        [
            Column("tensors", right=True),
            Column("in A", folds=True),
            Column("in B", folds=True),
            Column("such as", folds=True),
        ],
        [
            (
                f"{len(group.pairs):,}",
                group.a,
                _in_b(group.how, group.a, group.b),
                Span(group.pairs[0][0], NAME),
            )
            for group in layout.groups[:MOST_ROWS]
        ],
    )


def _in_b(how: str, a: str, b: str) -> Line:
    if how == SAME:
        return Span("the same", DIM)
    if how == MOVED:
        return "the same, on other ranks"
    return f"{b}, cut elsewhere" if a == b else Span(b, STRONG)


def _arrow(a: str, b: str) -> tuple[Span, ...]:
    return (Span(a), Span(" -> ", DIM), Span(b, STRONG))


def _closing(found: Difference) -> Iterator[str]:
    """What is the same, and what nothing is known of."""
    counts = found.counts
    same: list[str] = []
    if KEYS in counts and not counts[KEYS]:
        same.append(words.count(len(found.pairing.same), "key"))
    if SHAPES in counts and not counts[SHAPES]:
        same.append("shapes and dtypes" if not found.specs else "shapes")
    if LAYOUT in counts and not counts[LAYOUT]:
        same.append("layout" if not counts.get(SHAPES) else "layout where the shapes are equal")
    if found.optimizer is not None and not counts[OPTIMIZER]:
        same.append("optimizer settings and steps")
    objects = found.objects
    if objects is not None and not counts[OBJECTS]:
        equal = objects.compared - len(objects.changed) - len(objects.unread)
        same += [words.count(equal, "object")] if equal else []
    if same:
        yield f"The same in both: {', '.join(same)}."
    yield from contents_words(found)
    cast = len(found.specs) - len(found.counted_specs)
    if cast:
        yield f"{words.count(cast, 'key')} of another dtype, which --values does not count."
    if found.ignored:
        yield f"{words.count(len(found.ignored), 'key')} ignored."
