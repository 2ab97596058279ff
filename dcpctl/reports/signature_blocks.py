"""What a training log says about its resumes, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dcpctl.reports import words
from dcpctl.reports.blocks import (
    BAD,
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
from dcpctl.signature.engine import Diagnosis, Result
from dcpctl.signature.evidence import EARLY, LATE, MID, MIDDLE, Change, Shift
from dcpctl.signature.log import Source
from dcpctl.signature.robust import Spread
from dcpctl.signature.verdict import (
    DATA_CHANGE,
    DIVERGENCE,
    HEALTHY,
    INCONCLUSIVE,
    LOST_OPTIMIZER,
    LR_CHANGE,
    RECOVERED,
    SPIKE,
)

TONES = {
    LOST_OPTIMIZER: BAD, DIVERGENCE: BAD, DATA_CHANGE: WARN, LR_CHANGE: WARN, SPIKE: WARN,
    RECOVERED: WARN, HEALTHY: GOOD,
}  # fmt: skip
LABELS = {"loss": "loss", "grad_norm": "grad norm", "lr": "lr", "throughput": "throughput"}
_NEXT = {
    LOST_OPTIMIZER: "dcpctl signature LOG --run RUN asks the saves; dcpctl inspect RUN says which "
    "save to resume from",
    INCONCLUSIVE: "dcpctl signature LOG --run RUN asks the saves; dcpctl check RUN compares each "
    "with the one before",
}


def signature_blocks(result: Result) -> Iterator[Block]:
    """Say the verdict, the evidence about each resume that is not healthy, and what was read."""
    yield Heading((Span(result.log.name, STRONG), Span("  "), *_outcome(result)), 1)
    if not result.diagnoses:
        yield Paragraph(
            "No resume shows: steps never go back or repeat, and there is no gap in time. "
            "--resume-step says where one is."
        )
    if result.suspect is not None:
        step = words.step(result.suspect)
        yield Paragraph(
            Span(
                f"At step {step} the loss rises while grad norm falls. If a process began there, "
                f"--resume-step {words.step(max(result.suspect - 1, 0))} says more.",
                WARN,
            )
        )
    shown = list(result.diagnoses)
    if len(shown) != 1:
        yield from _overview(result.diagnoses, result.log.unit)
        shown = [one for one in shown if one.verdict.name not in (HEALTHY, INCONCLUSIVE)]
        unsure = [one for one in result.diagnoses if one.verdict.name == INCONCLUSIVE]
        if unsure:
            yield Paragraph(unsure[-1].verdict.sentence)
            yield Facts([("next", _NEXT[INCONCLUSIVE])])
    for one in shown:
        yield from _details(one, result.first)
    yield from _read(result)


def gate_blocks(result: Result) -> Iterator[Block]:
    """Say what `--expect-match` comes to."""
    wrong = [one for one in result.diagnoses if not one.match.ok]
    if result.matches:
        yield Paragraph(Span(f"expected a match: the first {result.first} steps match", GOOD))
    elif not wrong:
        yield Paragraph(Span("expected a match: there is no resume that could match", WARN))
    else:
        places = ", ".join(words.step(one.resume.step) for one in wrong[:10])
        yield Paragraph(Span(f"expected a match: not at {result.log.unit} {places}", BAD))


def _outcome(result: Result) -> Iterator[Span]:
    worst = result.worst
    if worst is None:
        yield Span("no resume found", WARN)
        return
    name = worst.verdict.name
    yield Span(name, TONES.get(name, STRONG))
    yield Span(f", confidence {worst.verdict.confidence}")
    if len(result.diagnoses) > 1:
        yield Span(f", at {result.log.unit} {words.step(worst.resume.step)}")
        yield Span(f"; {words.count(len(result.diagnoses), 'resume')}")


def _overview(diagnoses: Sequence[Diagnosis], unit: str) -> Iterator[Block]:
    if not diagnoses:
        return
    yield Table(
        [
            Column(unit, right=True), Column("verdict"), Column("confidence"),
            Column("loss", right=True), Column("grad norm", right=True),
            Column("first steps"), Column("shown by", folds=True),
        ],
        [
            (
                words.step(one.resume.step),
                Span(one.verdict.name, TONES.get(one.verdict.name, STRONG)),
                one.verdict.confidence,
                _early(one, "loss"),
                _early(one, "grad_norm"),
                Span("match", GOOD) if one.match.ok else Span("differ", WARN),
                "; ".join(one.resume.why),
            )
            for one in diagnoses
        ],
    )  # fmt: skip


def _early(one: Diagnosis, quantity: str) -> str:
    change = one.evidence.changes.get(quantity)
    return relative(change.relative(EARLY)) if change and EARLY in change.shifts else ""


def _details(one: Diagnosis, first: int) -> Iterator[Block]:
    yield Heading(
        (
            Span(f"resume at {one.evidence.unit} {words.step(one.resume.step)}  "),
            Span(one.verdict.name, TONES.get(one.verdict.name, STRONG)),
        )
    )
    yield Paragraph(one.verdict.sentence)
    if one.evidence.changes:
        yield _table(one, first)
    shown: list[tuple[str, Line]] = [("shown by", "; ".join(one.resume.why))]
    if one.verdict.reasons:
        shown.append(("besides", "; ".join(one.verdict.reasons)))
    if one.evidence.replayed:
        shown.append(
            (
                "compared",
                f"{words.count(one.evidence.replayed, 'step')} one by one: the process before "
                "logged them too, on the same data",
            )
        )
    shown.append((f"first {first}", _match(one)))
    if one.verdict.name in _NEXT and one.evidence.changes:
        shown.append(("next", _NEXT[one.verdict.name]))
    yield Facts(shown)


def _match(one: Diagnosis) -> Line:
    if one.match.ok:
        names = ", ".join(LABELS[name] for name in one.match.compared)
        return (Span("match the regime before", GOOD), Span(f": {names}"))
    return (Span("do not match", WARN), Span(": " + "; ".join(one.match.because)))


def _table(one: Diagnosis, first: int) -> Table:
    parts = {
        EARLY: f"first {first}",
        MID: f"rows {first + 1}-{MIDDLE * first}",
        LATE: "after those",
    }
    present = {
        part: heading
        for part, heading in parts.items()
        if any(part in change.shifts for change in one.evidence.changes.values())
    }
    columns = [Column("median"), Column("before", right=True)]
    for heading in present.values():
        columns += [Column(heading, right=True), Column("change", right=True)]
    rows = []
    for name, change in one.evidence.changes.items():
        row: list[Line] = [LABELS[name], _spread(change.before)]
        for part in present:
            row += _cells(change, change.shifts.get(part))
        rows.append(row)
    return Table(columns, rows)


def _cells(change: Change, shift: Shift | None) -> tuple[Line, Line]:
    if shift is None:
        return "", ""
    tone = DIM if not shift.direction else BAD if change.quantity == "loss" else WARN
    return _spread(shift.seen), Span(relative(shift.relative), tone)


def relative(change: float) -> str:
    """A relative change as people say it: `+2.8%`, `-45%`, `x 46`."""
    if change >= 9:
        return f"x {_number(1 + change)}"
    if abs(change) < 0.0005:
        return "0.0%"
    return f"{change:+.1%}" if abs(change) < 0.095 else f"{change:+.0%}"


def _spread(seen: Spread) -> str:
    """`1.21 ± 0.06`, the second being half of what the quartiles span; alone where it is 0."""
    around = (seen.high - seen.low) / 2
    if not around:
        return _number(seen.median)
    return f"{_number(seen.median)} ± {_number(around) if around >= 100 else f'{around:.2g}'}"


def _number(value: float) -> str:
    size = abs(value)
    return f"{value:,.0f}" if 1_000 <= size < 1e6 else f"{value:.3g}"


def _read(result: Result) -> Iterator[Block]:
    for source in result.log.sources:
        columns = ", ".join(
            name if name == column else f"{name} ({column})"
            for name, column in source.columns.items()
        )
        yield Paragraph(
            (Span(source.path, NAME), Span(f": {source.form}, {_rows(source)}; {columns}", DIM))
        )
    for note in result.log.notes:
        yield Paragraph(Span(note, DIM))


def _rows(source: Source) -> str:
    said = words.count(source.rows, "row")
    if source.without:
        said += f", {source.without:,} without training metrics"
    if source.bad:
        said += f", {source.bad:,} unreadable"
    return said
