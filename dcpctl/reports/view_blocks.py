"""The views on files, on the optimizer's state, and on the numbers themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dcpctl.errors import printable
from dcpctl.inspect.files import FileSurvey, bytes_of
from dcpctl.inspect.statistics import Statistics
from dcpctl.model.optimizer.coverage import COMPLETE, NO_STATE_NEEDED, Parameter
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.shard_file import ShardFile
from dcpctl.reports import words
from dcpctl.reports.blocks import (
    BAD,
    DIM,
    GOOD,
    NAME,
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
from dcpctl.reports.groups import group_blocks
from dcpctl.reports.summary_blocks import TONES, optimizer_facts

_UNEVEN = 1.2
_MISSING, _UNKNOWN, _NONE = Span("missing", BAD), Span("unknown", WARN), Span("-", DIM)


def files_blocks(survey: FileSurvey) -> Iterator[Block]:
    """Say what every shard file and every rank holds."""
    yield Table(
        [
            Column("file", folds=True),
            Column("rank", right=True),
            Column("items", right=True),
            Column("bytes", right=True),
            Column("described", right=True),
        ],
        [_file_row(file) for file in survey.files],
    )
    if len(survey.ranks) > 1:
        yield Table(
            [
                Column("rank", right=True),
                Column("files", right=True),
                Column("items", right=True),
                Column("bytes", right=True),
                Column("balance", right=True),
            ],
            [
                (
                    "-" if share.rank is None else str(share.rank),
                    f"{share.files:,}",
                    f"{share.items:,}",
                    f"{share.nbytes:,}",
                    Span(f"{share.balance:.2f}", WARN if share.balance > _UNEVEN else ""),
                )
                for share in survey.ranks
            ],
        )
    total = sum(map(bytes_of, survey.files))
    files = words.count(len(survey.files), "shard file")
    clause = ""
    if len(survey.ranks) > 1:
        clause = f"; the fullest rank has {survey.imbalance:.2f} times the mean"
    yield Paragraph(Span(f"{files}, {words.size(total)}{clause}", DIM))


def _file_row(file: ShardFile) -> Sequence[Line]:
    described: Line = f"{file.described_bytes:,}"
    if file.size is None:
        size: Line = Span("not there", BAD)
    else:
        size = f"{file.size:,}"
        if file.size != file.described_bytes:
            described = Span(f"{file.described_bytes:,}", WARN)
    rank = "-" if file.rank is None else str(file.rank)
    return (Span(file.name, NAME), rank, f"{file.items:,}", size, described)


def optimizer_blocks(view: OptimizerView) -> Iterator[Block]:
    """Say the optimizer's state in full: a row for each parameter, a column for each slot."""
    groups = list(group_blocks(view))
    yield Heading((Span("optimizer  "), Span(view.verdict, TONES[view.verdict])))
    yield Paragraph(Span(view.sentence, TONES[view.verdict]))
    yield Facts(list(optimizer_facts(view)))
    yield from groups
    slots = list(view.slots)
    if view.parameters:
        columns = [Column("parameter", folds=True), Column("shape", folds=True)]
        columns += [Column(slot) for slot in slots]
        columns.append(Column("state", folds=True))
        yield Table(columns, [_matrix_row(p, slots, view) for p in view.parameters])
    for title, names in (("frozen", view.frozen), ("state without parameter", view.extra_state)):
        if names:
            yield Heading(f"{title}: {len(names)}")
            yield Paragraph(tuple(_joined(names)))


def _matrix_row(parameter: Parameter, slots: Sequence[str], view: OptimizerView) -> Sequence[Line]:
    shape = "?" if parameter.shape is None else words.shape(parameter.shape)
    good = parameter.status in (COMPLETE, NO_STATE_NEEDED)
    why = parameter.status + (f": {parameter.why}" if parameter.why else "")
    return (
        Span(parameter.name, NAME),
        shape,
        *(_slot_cell(parameter, slot, view) for slot in slots),
        Span(why, GOOD if good else WARN),
    )


def _slot_cell(parameter: Parameter, slot: str, view: OptimizerView) -> Line:
    entry = parameter.slots.get(slot)
    if entry is None:
        return _MISSING if slot in parameter.expected else _NONE
    if slot == "step" and parameter.name in view.step_of:
        return words.step(view.step_of[parameter.name])
    if slot == "step" and entry.gap:
        return _UNKNOWN
    if entry.dtype is None:
        return "object"
    kind = view.class_of(entry.fqn)
    if kind is not None:
        return f"{entry.dtype} ({printable(kind)})"
    same = entry.is_scalar or parameter.shape is None or entry.shape == parameter.shape
    return entry.dtype if same else f"{entry.dtype} {words.shape(entry.shape or ())}"


def _joined(names: Sequence[str]) -> Iterator[Span]:
    for number, name in enumerate(names):
        yield from ((Span(", "), Span(name, NAME)) if number else (Span(name, NAME),))


def statistics_blocks(
    found: Iterable[Statistics], unread: Sequence[tuple[str, str]]
) -> list[Block]:
    """Say statistics, a row for each tensor.

    Args:
        found: the statistics.
        unread: FQN and reason of each tensor that has none.
    """
    rows = [_statistics_row(stats) for stats in found]
    names = ("min", "max", "mean", "std", "zeros", "NaN", "Inf")
    columns = [
        Column("key", folds=True),
        Column("dtype"),
        Column("elements", right=True),
        *(Column(name, right=True) for name in names),
    ]
    blocks: list[Block] = [Table(columns, rows)] if rows else []
    blocks += [Paragraph((Span(fqn, NAME), Span(f": {reason}", BAD))) for fqn, reason in unread]
    return blocks


def _statistics_row(stats: Statistics) -> Sequence[Line]:
    numbers = (stats.min, stats.max, stats.mean, stats.std)
    return (
        Span(stats.fqn, NAME),
        stats.dtype,
        f"{stats.count:,}",
        *(_NONE if value is None else _statistic(value) for value in numbers),
        f"{stats.zeros:,}",
        Span(f"{stats.nans:,}", BAD if stats.nans else ""),
        Span(f"{stats.infs:,}", BAD if stats.infs else ""),
    )


def _statistic(value: complex) -> str:
    """Four digits are enough to see by; ints keep theirs up to a thousand million."""
    if isinstance(value, int) and abs(value) < 1e9:
        return str(value)
    return f"{value:.4g}"
