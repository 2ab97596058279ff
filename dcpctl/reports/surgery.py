"""What a surgery did, or would do: for people, and as the contract `dcpctl.surgery/1`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpctl.errors import listed, printable
from dcpctl.formats.metadata import DCP
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
from dcpctl.surgery.edits import Applied
from dcpctl.surgery.outcome import Change
from dcpctl.writing.counts import Counts
from dcpctl.writing.plan import Plan
from dcpctl.writing.report import Report
from dcpctl.writing.undo import UndoReport

SCHEMA = "dcpctl.surgery/1"
_MOST_CHANGES = 8
_OF_KEYS = ("renamed", "dropped", "added", "set", "cast")


@dataclass(frozen=True, slots=True, eq=False)
class Surgery:
    """One surgery from beginning to end.

    Attributes:
        verb: the command.
        source: the checkpoint that was named first.
        destination: the directory that was made; None for an edit in place.
        edits: what was done, in order.
        plan: what that meant for the files.
        report: what the writer did.
        dry_run: nothing was written.
    """

    verb: str
    source: Path
    destination: Path | None
    edits: tuple[Applied, ...]
    plan: Plan
    report: Report
    dry_run: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is lost or may surprise, of all edits."""
        found = (warning for edit in self.edits for warning in edit.outcome.warnings)
        return tuple(dict.fromkeys([*found, *self.plan.warnings]))


def surgery_document(surgery: Surgery) -> dict[str, Any]:
    """The whole report; keys are added freely and never renamed within `/1`."""
    counts, report = surgery.report.counts, surgery.report
    return {
        "schema": SCHEMA,
        "verb": surgery.verb,
        "sources": [str(source.path) for source in surgery.plan.draft.sources],
        "destination": str(surgery.destination or surgery.source),
        "in_place": surgery.destination is None,
        "dry_run": surgery.dry_run,
        "edits": [
            {
                "verb": edit.verb,
                "changes": [
                    {"what": change.what, "key": change.fqn, "to": change.to}
                    for change in edit.outcome.changes
                ],
                "notes": list(edit.outcome.notes),
                "warnings": list(edit.outcome.warnings),
            }
            for edit in surgery.edits
        ],
        "warnings": list(surgery.warnings),
        "plan": {**_plan_document(counts), **_parts_document(surgery.plan)},
        "written": {
            "link": report.link,
            "bytes": 0 if surgery.dry_run else report.bytes_written,
            "seconds": round(report.seconds, 3),
            "resumed_files": list(report.resumed),
            "backup": None if report.backup is None else str(report.backup),
            "notes": list(report.notes),
        },
    }


def _plan_document(counts: Counts) -> dict[str, Any]:
    return {
        "keys": counts.keys,
        "keys_added": list(counts.added),
        "keys_removed": list(counts.removed),
        "keys_renamed": [list(pair) for pair in counts.renamed],
        "keys_replaced": list(counts.replaced),
        "keys_cast": list(counts.cast),
        "elements": counts.elements,
        "tensor_bytes": counts.tensor_bytes,
        "files": counts.files,
        "files_whole": counts.files_whole,
        "bytes_whole": counts.bytes_whole,
        "items_copied": counts.items_copied,
        "bytes_copied": counts.bytes_copied,
        "items_new": counts.items_new,
        "bytes_new": counts.bytes_new,
        "tensor_bytes_new": counts.tensor_bytes_new,
        "metadata_bytes": counts.metadata_bytes,
        "total_bytes": counts.total_bytes,
    }


def _parts_document(plan: Plan) -> dict[str, Any]:
    return {
        "form": plan.parts[0].stored.form.name,
        "parts": [part.name for part in plan.parts],
        **side_files_document(plan),
    }


def side_files_document(plan: Plan) -> dict[str, Any]:
    """What becomes of the files beside the shards, as JSON."""
    carried = () if plan.in_place else plan.beside.files.values()
    return {
        "side_files": [{"file": file.name, "bytes": file.size} for file in carried],
        "side_files_left": [{"file": one.name, "why": one.why} for one in plan.beside.left],
    }


def undo_document(undone: UndoReport, *, dry_run: bool) -> dict[str, Any]:
    """What `undo` took back, under the same contract."""
    return {
        "schema": SCHEMA,
        "verb": "undo",
        "sources": [str(undone.path)],
        "destination": str(undone.path),
        "in_place": True,
        "dry_run": dry_run,
        "undone": {
            "edit": undone.number,
            "removed_files": list(undone.removed),
            "edits_left": undone.left,
            "notes": list(undone.notes),
        },
    }


def undo_blocks(undone: UndoReport, *, dry_run: bool) -> Iterator[Block]:
    """Say what `undo` took back."""
    state = Span("dry run, nothing is undone", WARN) if dry_run else Span("undone", GOOD)
    yield Heading((Span(str(undone.path), STRONG), Span("  "), state), level=1)
    files = ", ".join(undone.removed) or "no shard file"
    yield Facts(
        [
            ("edit", f"number {undone.number}; {files} removed"),
            ("left", f"{words.count(undone.left, 'edit')} in place that can still be undone"),
        ]
    )
    for note in undone.notes:
        yield Paragraph(Span(note, DIM))


def surgery_blocks(surgery: Surgery, *, with_warnings: bool = False) -> Iterator[Block]:
    """Say what was done.

    Args:
        surgery: the report's subject.
        with_warnings: for a report that is read without what stands on stderr.
    """
    place = str(surgery.destination or surgery.source)
    yield Heading((Span(place, STRONG), Span("  "), _state(surgery)), level=1)
    for edit in surgery.edits:
        yield from _edit(edit)
    if with_warnings:
        for warning in surgery.warnings:
            yield Paragraph(Span(f"warning: {warning}", WARN))
    yield Facts(list(_facts(surgery)))
    for note in surgery.report.notes:
        yield Paragraph(Span(note, DIM))


def _state(surgery: Surgery) -> Span:
    if surgery.dry_run:
        return Span("dry run, nothing is written", WARN)
    if surgery.destination is not None:
        return Span("written", GOOD)
    return Span("edited in place" if surgery.report.backup else "left as it was", GOOD)


def _edit(edit: Applied) -> Iterator[Block]:
    changes = edit.outcome.changes
    if changes and not any(change.fqn for change in changes):
        yield Facts([(change.what, change.to) for change in changes])
    for what in dict.fromkeys(change.what for change in changes if change.fqn):
        yield from _table([change for change in changes if change.what == what])
    for note in edit.outcome.notes:
        yield Paragraph(Span(note, DIM))
    if not changes and not edit.outcome.notes:
        yield Paragraph(Span(f"{edit.verb}: nothing to do", DIM))


def _table(changes: Sequence[Change]) -> Iterator[Block]:
    """Changes of one kind: what was changed, and to what."""
    shown = changes[:_MOST_CHANGES]
    columns = [Column(shown[0].what, folds=True), Column("", folds=True)]
    if shown[0].what == "renamed":
        columns[1] = Column("now", folds=True)
    rows: list[tuple[Line, ...]] = [(Span(c.fqn, NAME), Span(c.to)) for c in shown]
    if not any(change.to for change in shown):
        columns, rows = columns[:1], [row[:1] for row in rows]
    yield Table(columns, rows)
    more = len(changes) - len(shown)
    if more > 0:
        yield Paragraph(Span(f"and {more:,} more; --json lists all", DIM))


def _facts(surgery: Surgery) -> Iterator[tuple[str, Line]]:
    counts, report = surgery.report.counts, surgery.report
    done = Counter(change.what for edit in surgery.edits for change in edit.outcome.changes)
    parts = [f"{done[what]:,} {what}" for what in done if what in _OF_KEYS]
    yield "keys", f"{counts.keys:,}" + (f"; {', '.join(parts)}" if parts else "")
    yield (
        "tensors",
        f"{words.size(counts.tensor_bytes)} in {words.count(counts.elements, 'number')}",
    )
    yield "files", _files(counts)
    yield from side_files_facts(surgery.plan)
    if counts.items_copied:
        yield (
            "copied",
            f"{words.count(counts.items_copied, 'item')} unchanged, "
            f"{words.size(counts.bytes_copied)}",
        )
    if counts.items_new:
        tensors = words.size(counts.tensor_bytes_new) if counts.tensor_bytes_new else "none"
        yield (
            "rewritten",
            f"{words.count(counts.items_new, 'item')}, {words.size(counts.bytes_new)} "
            f"({tensors} of tensors)",
        )
    if report.bytes_written and not surgery.dry_run:
        took = f" in {report.seconds:.1f} s" if report.seconds >= 1 else ""
        how = {"reflink": "reflinked", "hardlink": "hardlinked"}.get(report.link, "copied")
        whole = counts.files_whole and surgery.destination is not None
        yield (
            "wrote",
            f"{words.size(report.bytes_written)}{took}" + (f", whole files {how}" if whole else ""),
        )
    if report.backup is not None:
        yield "undo", (Span("dcpctl undo "), Span(str(surgery.source), NAME))


def side_files_facts(plan: Plan) -> Iterator[tuple[str, Line]]:
    """What is carried over beside the shard files, and the parts that there are."""
    form = plan.parts[0].stored.form
    if form != DCP:
        yield "form", form.title
    parts = [part.name for part in plan.parts if part.name]
    if parts:
        yield "parts", listed(parts, show=printable)
    if plan.counts.side_files:
        names = listed(plan.beside.files, show=printable)
        yield "beside them", f"{names} ({words.size(plan.counts.side_bytes)}), carried over"


def _files(counts: Counts) -> str:
    said = words.count(counts.files, "shard file")
    return f"{said}, {counts.files_whole:,} of them unchanged" if counts.files_whole else said
