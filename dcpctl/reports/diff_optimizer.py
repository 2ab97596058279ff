"""What differs between two optimizers, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dcpctl.diff.optimizer import GroupChange, OptimizerDifference
from dcpctl.model.optimizer.verdict import shorten
from dcpctl.reports import values_text, words
from dcpctl.reports.blocks import (
    BAD,
    DIM,
    STRONG,
    WARN,
    Block,
    Column,
    Facts,
    Heading,
    Line,
    Span,
    Table,
)
from dcpctl.reports.diff_objects import values_apart
from dcpctl.reports.summary_blocks import TONES

_ABSENT = Span("-", DIM)


def optimizer_blocks(found: OptimizerDifference) -> Iterator[Block]:
    """Say kind, verdict, state and steps where they differ, then the param groups that do."""
    yield Heading("optimizer")
    alone = [side for side in (0, 1) if found.parameters[side] or found.groups[side]]
    if len(alone) < 2:
        yield Facts([(name, _whole(found, side)) for side, name in enumerate("AB")])
        return
    rows: list[tuple[str, Line]] = []
    if found.kinds_differ:
        rows.append(("kind", _arrow(found.kind[0] or "unknown", found.kind[1] or "unknown")))
    if found.verdict[0] != found.verdict[1]:
        one, other = (Span(verdict, TONES.get(verdict, "")) for verdict in found.verdict)
        rows.append(("state", (one, Span(" -> ", DIM), other)))
    if found.slots:
        rows.append(("parameters with", tuple(_slots(found.slots))))
    if found.steps_differ:
        rows.append(("step", tuple(_stepped(found))))
    if found.groups_told and found.groups[0] != found.groups[1]:
        rows.append(("param groups", _arrow(str(found.groups[0]), str(found.groups[1]))))
    rows += list(_unknown(found))
    if rows:
        yield Facts(rows)
    if found.changes:
        table = [row for change in found.changes for row in _group_rows(change)]
        columns = [
            Column("group"),
            Column("of", right=True),
            Column("what", folds=True, prose=True),
        ]
        columns += [Column("in A", folds=True), Column("in B", folds=True)]
        yield Table(columns, table)


def _unknown(found: OptimizerDifference) -> Iterator[tuple[str, Line]]:
    """What could not be read of a side, and what that leaves untold."""
    untold = [] if found.kinds_told else ["kind"]
    untold += [] if found.steps_told else ["step"]
    untold += [] if found.groups_told else ["param groups"]
    for side, unknown in zip("AB", found.unknown, strict=True):
        if unknown:
            entries = words.count(len(unknown), "entry", "entries")
            first = ", ".join([*untold, "what they hold"])
            text = f"{entries} could not be read ({first} cannot be compared): "
            yield f"unknown in {side}", Span(text + unknown[0].reason, WARN)


def _whole(found: OptimizerDifference, side: int) -> Line:
    """All that is to be said of one side, where the other has nothing."""
    if not found.parameters[side] and not found.groups[side]:
        return Span("none", BAD)
    said = f"{found.kind[side] or 'unknown'}, "
    tail = f", {words.count(found.parameters[side], 'parameter')}"
    if found.steps[side]:
        tail += f" at step {_steps(found.steps[side])}"
    verdict = found.verdict[side]
    return (Span(said), Span(verdict, TONES.get(verdict, "")), Span(tail))


def _slots(slots: Mapping[str, tuple[int, int]]) -> Iterator[Span]:
    """`exp_avg, exp_avg_sq 21 -> 12, step 21 -> 0`."""
    alike: dict[tuple[int, int], list[str]] = {}
    for slot, counts in slots.items():
        alike.setdefault(counts, []).append(slot)
    for number, ((had, has), names) in enumerate(alike.items()):
        yield Span(("; " if number else "") + f"{', '.join(names)}: ")
        yield from _arrow(f"{had:,}", f"{has:,}")


def _group_rows(change: GroupChange) -> Iterator[tuple[Line, ...]]:
    """A row for each hyperparameter; a group that one side lacks is one row."""
    name = _number(change)
    if change.a is None or change.b is None:
        values = change.removed or change.added
        has = f"{words.count(len(values), 'key')}"
        cells = (has, _ABSENT) if change.b is None else (_ABSENT, has)
        yield (name, f"{change.parameters:,}", "the group", *cells)
        return
    rows: list[tuple[Line, Line, Line]] = [
        (key, cells[0], Span(cells[1], STRONG))
        for key, values in change.changed.items()
        for cells in [values_apart(*values)]
    ]
    rows += [(key, values_text.short(value), _ABSENT) for key, value in change.removed.items()]
    rows += [
        (key, _ABSENT, Span(values_text.short(value), STRONG))
        for key, value in change.added.items()
    ]
    if change.left or change.joined:
        rows.append(("parameters", _names(change.left), _names(change.joined)))
    for number, row in enumerate(rows):
        head = (name, f"{change.parameters:,}") if number == 0 else ("", "")
        yield (*head, *row)


def _number(change: GroupChange) -> str:
    if change.a == change.b or change.b is None:
        return str(change.a)
    return str(change.b) if change.a is None else f"{change.a} -> {change.b}"


def _names(names: tuple[str, ...]) -> Line:
    if not names:
        return _ABSENT
    return f"{len(names):,}: {shorten(names)}"


def _stepped(found: OptimizerDifference) -> Iterator[Span]:
    yield from _arrow(_steps(found.steps[0]), _steps(found.steps[1]))
    if found.steps[0] and found.steps[1]:
        ahead = max(found.steps[1]) - max(found.steps[0])
        if ahead < 0:
            yield Span(f": {words.step(-ahead)} behind A", WARN)


def _steps(steps: Mapping[float, int]) -> str:
    numbers = list(steps)
    if not numbers:
        return "none"
    if len(numbers) == 1:
        return words.step(numbers[0])
    return f"{words.step(numbers[0])} to {words.step(numbers[-1])}"


def _arrow(a: str, b: str) -> tuple[Span, ...]:
    return (Span(a), Span(" -> ", DIM), Span(b, STRONG))
