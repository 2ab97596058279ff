"""What a repair or a salvage found and did: for people, and as the contract `dcpctl.repair/1`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpctl.repair.engine import Mended
from dcpctl.repair.record import SCHEMA, remedy_documents, survey_document
from dcpctl.repair.remedy import LEFT_OUT, Remedy
from dcpctl.repair.survey import REBUILT, TEMPORARY, WHOLE, FileState, Survey
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
from dcpctl.reports.surgery import side_files_document, side_files_facts
from dcpctl.writing.plan import Plan
from dcpctl.writing.report import Report

_MOST = 8


@dataclass(frozen=True, slots=True, eq=False)
class Repaired:
    """One repair or salvage from beginning to end.

    Attributes:
        verb: `repair` or `salvage`.
        source: the broken checkpoint.
        destination: the directory that was made.
        sibling: the other save that was named.
        mended: what was found and done.
        plan: what that meant for the files.
        report: what the writer did.
        dry_run: nothing was written.
    """

    verb: str
    source: Path
    destination: Path
    sibling: Path | None
    mended: Mended
    plan: Plan
    report: Report
    dry_run: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is lost or may surprise, beside the shards too."""
        return (*self.mended.warnings, *self.plan.warnings)


def repair_document(repaired: Repaired) -> dict[str, Any]:
    """The whole report; keys are added freely and never renamed within `/1`."""
    report, counts = repaired.report, repaired.report.counts
    return {
        "schema": SCHEMA,
        "verb": repaired.verb,
        "source": str(repaired.source),
        "sibling": None if repaired.sibling is None else str(repaired.sibling),
        "destination": str(repaired.destination),
        "dry_run": repaired.dry_run,
        **survey_document(repaired.mended.survey),
        "remedies": remedy_documents(repaired.mended.remedies),
        "warnings": list(repaired.warnings),
        "result": {
            "keys": counts.keys,
            "elements": counts.elements,
            "tensor_bytes": counts.tensor_bytes,
            "files": counts.files,
            "files_whole": counts.files_whole,
            "total_bytes": counts.total_bytes,
            **side_files_document(repaired.plan),
        },
        "written": {
            "link": report.link,
            "bytes": 0 if repaired.dry_run else report.bytes_written,
            "seconds": round(report.seconds, 3),
            "resumed_files": list(report.resumed),
            "notes": list(report.notes),
        },
    }


def repair_blocks(repaired: Repaired, *, with_warnings: bool = False) -> Iterator[Block]:
    """Say what was found and done.

    Args:
        repaired: the report's subject.
        with_warnings: for a report that is read without what stands on stderr.
    """
    mended = repaired.mended
    done = {"repair": "repaired", "salvage": "salvaged"}[repaired.verb]
    state = Span("dry run, nothing is written", WARN) if repaired.dry_run else Span(done, GOOD)
    yield Heading((Span(str(repaired.destination), STRONG), Span("  "), state), level=1)
    yield _files(mended.survey)
    yield from _remedies(mended)
    if with_warnings:
        for warning in repaired.warnings:
            yield Paragraph(Span(f"warning: {warning}", WARN))
    yield Facts(list(_facts(repaired)))
    for note in repaired.report.notes:
        yield Paragraph(Span(note, DIM))


def _files(survey: Survey) -> Table:
    """Every file that is not whole, and the others as a number if they are many."""
    odd = [file for file in survey.files if file.state != WHOLE]
    sound = [file for file in survey.files if file.state == WHOLE]
    shown = survey.files if len(survey.files) <= _MOST else odd
    rows: list[tuple[Line, ...]] = [_file_row(file) for file in shown]
    if shown is odd:
        items = sum(file.items for file in sound)
        size = words.size(sum(file.size or 0 for file in sound))
        rows.append((f"{len(sound):,} others", Span(WHOLE, GOOD), size, f"{items:,}", ""))
    columns = [
        Column("file"),
        Column("state"),
        Column("size", right=True),
        Column("good items", right=True),
        Column("", folds=True),
    ]
    return Table(columns, rows)


def _file_row(file: FileState) -> tuple[Line, ...]:
    state = Span(file.state, GOOD if file.state == WHOLE else BAD)
    size = "" if file.size is None else words.size(file.size)
    items = f"{file.good:,}" if file.state == WHOLE else f"{file.good:,} of {file.items:,}"
    return Span(file.name, NAME), state, size, items, file.why


def _remedies(mended: Mended) -> Iterator[Block]:
    """A table for each kind of remedy."""
    for what in dict.fromkeys(remedy.what for remedy in mended.remedies):
        some = [remedy for remedy in mended.remedies if remedy.what == what]
        rows = [_remedy_row(remedy, mended.survey) for remedy in some[:_MOST]]
        columns = [Column(what, folds=True), Column("", folds=True)]
        yield Table(columns, rows)
        if len(some) > _MOST:
            yield Paragraph(Span(f"and {len(some) - _MOST:,} more; --json lists all", DIM))


def _remedy_row(remedy: Remedy, survey: Survey) -> tuple[Line, ...]:
    said = ""
    if remedy.offsets is not None and remedy.sizes is not None:
        parts = [f"{a}:{a + n}" for a, n in zip(remedy.offsets, remedy.sizes, strict=True)]
        said = f"[{', '.join(parts)}]"
    if remedy.origin:
        said += f"{' ' if said else ''}from {remedy.origin}"
    if remedy.what == LEFT_OUT:
        lost = [one for one in survey.lost if one.fqn == remedy.fqn]
        entry = survey.layout.entries[remedy.fqn]
        chunks = getattr(entry, "chunks", None)
        if chunks is not None and len(chunks) > 1:
            said = f"{len(lost):,} of {len(chunks):,} chunks: "
        said += lost[0].why
    return Span(remedy.fqn, NAME), said


def _facts(repaired: Repaired) -> Iterator[tuple[str, Line]]:
    mended, report = repaired.mended, repaired.report
    survey, counts = mended.survey, report.counts
    yield "metadata", _basis(repaired)
    read = words.size(survey.bytes_read)
    yield "proof", f"{survey.verified:,} of {survey.items:,} items have their checksums ({read})"
    if survey.confirmed:
        said = words.count(survey.confirmed, "chunk")
        yield "numbers", f"{said} continue the sibling's"
    done = Counter(remedy.what for remedy in mended.remedies)
    if done:
        yield "remedies", ", ".join(f"{count:,} {what}" for what, count in done.items())
    size = words.size(counts.tensor_bytes)
    yield "result", f"{counts.keys:,} keys, {size} of tensors"
    yield from side_files_facts(repaired.plan)
    if report.bytes_written and not repaired.dry_run:
        how = {"reflink": "reflinked", "hardlink": "hardlinked"}.get(report.link, "copied")
        whole = f", {words.count(counts.files_whole, 'whole file')} {how}"
        wrote = words.size(report.bytes_written)
        yield "wrote", wrote + (whole if counts.files_whole else "")


def _basis(repaired: Repaired) -> str:
    survey = repaired.mended.survey
    if survey.basis == REBUILT:
        return f"rebuilt by {repaired.sibling}; {survey.why_basis}"
    if survey.basis == TEMPORARY:
        return f".metadata.tmp, whose items are where it says; {survey.why_basis}"
    return "those of the checkpoint"
