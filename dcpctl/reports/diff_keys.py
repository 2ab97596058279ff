"""Keys that one of two checkpoints has alone, those of another name, and those of another shape."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from dcpctl.diff.difference import Difference
from dcpctl.diff.key_groups import KeyGroup
from dcpctl.diff.shapes import SpecChange
from dcpctl.model.contract import Spec
from dcpctl.model.rename_rules import Prefix, Regex, Renaming, Upgrading
from dcpctl.reports import words
from dcpctl.reports.blocks import (
    DIM,
    NAME,
    STRONG,
    Block,
    Column,
    Heading,
    Line,
    Literal,
    Paragraph,
    Span,
    Table,
)

_MOST_ROWS = 20


def key_blocks(found: Difference) -> Iterator[Block]:
    """Say the rules of renames with the command that makes them, then keys of one side alone."""
    pairing = found.pairing
    if pairing.renamed or pairing.regrouped:
        yield from _renamed(found)
    for groups, side in ((found.removed, "A"), (found.added, "B")):
        if groups:
            count = words.count(sum(len(group.keys) for group in groups), "key")
            yield Heading(f"{count} only in {side}")
            yield Table(
                [
                    Column("key", folds=True),
                    Column("keys", right=True),
                    Column("holds", folds=True),
                ],
                [_group_row(group) for group in groups[:_MOST_ROWS]],
            )
            yield from _more(groups)


def spec_blocks(found: Difference) -> Iterator[Block]:
    """Say what has another shape or dtype: dtypes together, shapes one by one."""
    specs = found.counted_specs
    if not specs:
        return
    alike: dict[tuple[str, str], list[SpecChange]] = {}
    for change in specs:
        cells = str(change.a.dtype), str(change.b.dtype)
        if not change.comparable:
            cells = _spec(change.a), _spec(change.b)
        alike.setdefault(cells, []).append(change)
    rows: list[tuple[Line, ...]] = [
        (f"{len(changes):,}", one, Span(other, STRONG), Span(changes[0].fqn_a, NAME))
        for (one, other), changes in alike.items()
    ]
    yield Heading(f"{words.count(len(specs), 'key')} of another shape or dtype")
    columns = [Column("keys", right=True)]
    columns += [Column(name, folds=True) for name in ("in A", "in B", "such as")]
    yield Table(columns, rows[:_MOST_ROWS])
    yield from _more(rows)


def _renamed(found: Difference) -> Iterator[Block]:
    pairing = found.pairing
    rows: list[tuple[Line, ...]] = [
        (f"{rule.keys:,}", Span(rule.old or "-", NAME), Span(rule.new or "-", NAME))
        for rule in pairing.rules[:_MOST_ROWS]
    ]
    groups = pairing.regrouped
    if groups is not None:
        rows.append(
            (
                f"{len(groups.keys_a):,}",
                f"param groups {groups.form_a}",
                f"{groups.form_b}, {words.count(len(groups.keys_b), 'key')}",
            )
        )
    count = len(pairing.renamed) + (len(groups.keys_a) if groups else 0)
    yield Heading(f"{words.count(count, 'key')} of another name")
    yield Table(
        [Column("keys", right=True), Column("in A", folds=True), Column("in B", folds=True)], rows
    )
    yield from _more(pairing.rules)
    lists = found.objects.renamed_in if found.objects is not None else ()
    if lists:
        objects = words.count(len(lists), "object")
        yield Paragraph(Span(f"The names in {objects} follow ({lists[0]} ...).", DIM))
    if pairing.edits:
        yield Literal("\n".join(command_lines(str(found.a.path), pairing.edits)))


def command_of(edit: Renaming | Upgrading) -> tuple[str, ...]:
    """Return the command that makes an edit: verb and arguments, without the paths."""
    if isinstance(edit, Upgrading):
        keys = ("--optimizer-keys", edit.optimizer_keys) if edit.optimizer_keys else ()
        return ("upgrade", *keys, *(("--torch", edit.torch) if edit.torch else ()))
    options = {Prefix: ("--prefix",), Regex: ("--regex",)}
    rules = (word for rule in edit.rules for word in (*options.get(type(rule), ()), str(rule)))
    return ("rename", *rules, *(("--keys-only",) if edit.keys_only else ()))


def command_lines(source: str, edits: Sequence[Renaming | Upgrading]) -> Iterator[str]:
    """Yield the commands to type that make edits one after the other."""
    for number, (verb, *arguments) in enumerate(map(command_of, edits)):
        last = number == len(edits) - 1
        target = "DST" if last else "TMP"
        words_ = ["dcpctl", verb, source, target, *arguments]
        yield " ".join(shlex.quote(word) for word in words_)
        source = target


def _group_row(group: KeyGroup) -> tuple[Line, ...]:
    objects = len(group.keys) - group.tensors
    holds = []
    if group.tensors:
        holds.append(f"{words.count(group.tensors, 'tensor')}, {words.size(group.nbytes)}")
    if objects:
        holds.append(words.count(objects, "object"))
    return (Span(group.words, NAME), f"{len(group.keys):,}", ", ".join(holds))


def _spec(spec: Spec) -> str:
    if spec.shape is None:
        return "object"
    return f"{spec.dtype} {words.shape(spec.shape)}"


def _more(rows: Sequence[object]) -> Iterator[Block]:
    if len(rows) > _MOST_ROWS:
        yield Paragraph(Span(f"{len(rows) - _MOST_ROWS:,} more rows; --json has all", DIM))
