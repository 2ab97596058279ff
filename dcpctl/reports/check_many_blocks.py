"""What `check` found in several checkpoints, or in the saves of a run, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from dcpctl.check.finding import ERROR, WARNING, Checked, CheckedRun, CheckResult
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
from dcpctl.reports.check_blocks import by_policy, finding_blocks, outcome, waiver_blocks
from dcpctl.reports.unread import unread_block


def many_blocks(checked: Checked) -> Iterator[Block]:
    """Say how each came out, then the findings of each that has some, then what was read."""
    total = words.count(len(checked.results) + len(checked.unreadable), "checkpoint")
    if len(checked.runs) > 1:
        total += f" of {len(checked.runs):,} runs"
    how: list[Span] = []
    if checked.unreadable:
        how.append(Span(f"{len(checked.unreadable):,} unreadable", BAD))
    if checked.results:
        waived = sum(len(result.waived) for result in checked.results)
        sound = not checked.counts.get(ERROR) and not checked.counts.get(WARNING)
        link = [Span("; the others: " if sound else ", ")] if how else []
        how += [*link, *outcome(checked.counts, waived)]
    yield Heading((Span(f"{total}  "), *how), level=1)
    yield _overview(checked)
    for one in checked.unreadable:
        hint = f" ({one.error.hint})" if one.error.hint else ""
        yield Paragraph((Span(f"{one.error.message}{hint}"),))
    for result in checked.results:
        if result.findings or result.left_off:
            yield Heading(_name(result), level=2)
            yield from finding_blocks(result)
    if any(result.skipped for result in checked.results):
        yield _skipped(checked.results)
    yield from waiver_blocks(checked.results, checked.unused_waivers)
    yield Paragraph(Span(_sentence(checked.results), DIM))
    for run in checked.runs:
        yield _resume(run, of_several=len(checked.runs) > 1)
    if checked.unread:
        yield unread_block(dict(checked.unread))


def _resume(run: CheckedRun, *, of_several: bool) -> Paragraph:
    """Which save of a run to resume from."""
    label = f"Resume from ({run.path}): " if of_several else "Resume from: "
    if run.resume_from is not None:
        return Paragraph((Span(label), Span(str(run.resume_from), NAME)))
    return Paragraph((Span(label), Span(f"no save of this run ({run.why})", BAD)))


def _overview(checked: Checked) -> Table:
    """A row for each; an interrupted save of a run stands between its neighbours."""
    compared = any(result.against for result in checked.results)
    rows: dict[Path, Sequence[Line]] = {}
    for result in checked.results:
        before = (_before(result),) if compared else ()
        rows[result.path] = (Span(str(result.path), NAME), *before, _outcome(result))
    for one in checked.unreadable:
        dash = (Span("-", DIM),) if compared else ()
        rows[one.path] = (Span(str(one.path), NAME), *dash, Span(one.error.id, BAD))
    columns = [Column("checkpoint", folds=True), Column("outcome", folds=True)]
    if compared:
        columns.insert(1, Column("compared with", folds=True))
    place = {path: number for number, path in enumerate(checked.order)}
    return Table(columns, [rows[path] for path in sorted(rows, key=lambda p: place.get(p, -1))])


def _before(result: CheckResult) -> Line:
    if result.against is None:
        return Span("-", DIM)
    beside = result.against.parent == result.path.parent
    return Span(result.against.name if beside else str(result.against), NAME)


def _name(result: CheckResult) -> Line:
    return (Span(str(result.path), NAME), Span("  "), *_outcome(result))


def _outcome(result: CheckResult) -> tuple[Span, ...]:
    return tuple(outcome(result.counts, len(result.waived)))


def _skipped(results: Sequence[CheckResult]) -> Table:
    """Rules that did not run, with the number of checkpoints in which they did not."""
    by_reason: dict[str, Counter[str]] = {}
    for result in results:
        for one in result.skipped:
            by_reason.setdefault(one.because, Counter())[one.rule] += 1
    rows: list[Sequence[Line]] = [
        (", ".join(rules), f"{max(rules.values()):,}", because)
        for because, rules in by_reason.items()
    ]
    columns = [
        Column("skipped", folds=True, prose=True),
        Column("in", right=True),
        Column("because", folds=True, prose=True),
    ]
    return Table(columns, rows)


def _sentence(results: Sequence[CheckResult]) -> str:
    """How much was looked at of all of them, in a sentence or two."""
    if not results:
        return "No rule was run."
    items = sum(result.items for result in results)
    verified = sum(result.items_verified for result in results)
    stored = sum(result.bytes_stored for result in results)
    read = sum(result.bytes_read for result in results)
    run = sorted({len(result.rules_run) for result in results})
    most = f"{run[0]} to {run[-1]} rules" if len(run) > 1 else words.count(run[0], "rule")
    target = f" for torch {results[0].target}" if results[0].target else ""
    said = f"{most} run{target}{by_policy(results[0])}"
    said += f"; {words.size(read)} of {words.size(stored)} read"
    said += f", {verified:,} of {words.count(items, 'item')} verified."
    if verified < items:
        said += " Of the others a sample was read, or nothing could be; --verify-data reads what"
        said += " can be read."
    return said
