"""The default view of `inspect`: one screen that says what it is and whether it can be resumed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from dcpctl import torch_bridge
from dcpctl.check.words import enumerated
from dcpctl.errors import printable, quote
from dcpctl.inspect.summary import Summary
from dcpctl.model.copies import Copies
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.shard_file import rank_words
from dcpctl.reports import words
from dcpctl.reports.blocks import (
    BAD,
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
from dcpctl.reports.groups import group_blocks

#: Verdicts and other ends of a check, and the tone of each.
TONES = {
    "complete": GOOD,
    "partial": WARN,
    "absent": BAD,
    "interrupted": BAD,
    "unreadable": BAD,
    "reset": WARN,
}
_MOST_NAMED = 4


def summary_blocks(summary: Summary) -> Iterator[Block]:
    """Say a summary."""
    view = summary.optimizer
    groups = list(group_blocks(view))  # reads them, which may add to what is unreadable
    path = str(summary.checkpoint.path)
    yield Heading((Span(path, STRONG), Span("  optimizer "), _verdict(view.verdict)), level=1)
    yield Facts(list(_facts(summary)))
    yield Table(
        [
            Column("section"),
            Column("tensors", right=True),
            Column("objects", right=True),
            Column("bytes", right=True),
            Column("dtype", folds=True),
            Column("layout", folds=True),
        ],
        [
            (
                "RNG" if share.name == "rng" else share.name,
                f"{share.tensors:,}",
                f"{share.objects:,}",
                words.size(share.nbytes) if share.tensors else "",
                _listed(share.dtypes),
                share.layout,
            )
            for share in summary.sections
        ],
    )
    yield Heading("optimizer")
    yield Paragraph(Span(view.sentence, TONES[view.verdict]))
    if summary.optimizer_beside:
        save = shlex.quote(str(summary.checkpoint.path.resolve().parent))
        part = quote(summary.optimizer_beside)
        yield Paragraph(f"The optimizer lies in {part} beside it. Run: dcpctl inspect {save}")
    if summary.obstacles:
        yield Paragraph(Span(_not_as_it_is(summary), WARN))
    yield Facts(list(optimizer_facts(view)))
    yield from groups


def _not_as_it_is(summary: Summary) -> str:
    """Say that the target release does not load it, why, and the command that changes that."""
    path = str(summary.checkpoint.path)
    command = f"dcpctl upgrade {shlex.quote(path)} {shlex.quote(path + '-fixed')}"
    if summary.target != torch_bridge.installed_version():
        command += f" --torch {summary.target}"
    why = "; ".join(summary.obstacles)
    return f"Not with torch {summary.target} as it is: {why}. Run: {command}"


def _facts(summary: Summary) -> Iterator[tuple[str, Line]]:
    checkpoint = summary.checkpoint
    formats = " + ".join(form.title for form in checkpoint.forms)
    yield "format", (Span(formats), Span(f", written by {summary.releases.words}"))
    if len(checkpoint.parts) > 1 or checkpoint.parts[0].name:
        yield "read as one", Span(", ".join(part.name for part in checkpoint.parts), NAME)
    files = words.count(len(checkpoint.files), "shard file")
    ranks = words.count(len(checkpoint.ranks), "rank") + ", " if checkpoint.ranks else ""
    disk: tuple[Span, ...] = (Span(f"{ranks}{files}, {words.size(summary.disk_bytes)} on disk"),)
    if summary.absent_files:
        shown = ", ".join(summary.absent_files[:_MOST_NAMED])
        more = len(summary.absent_files) - _MOST_NAMED
        tail = f" and {more:,} more" if more > 0 else ""
        away = sorted(
            {f.rank for f in checkpoint.files if f.rank is not None}
            - {f.rank for f in checkpoint.files if f.size is not None}
        )
        whose = f" (the files of {rank_words(away)} are not here)" if away else ""
        disk += (Span(f"; {len(summary.absent_files):,} not there: {shown}{tail}{whose}", BAD),)
    yield "files", disk
    tensors = words.count(len(checkpoint.tensors), "tensor")
    chunks = words.count(summary.chunks, "chunk")
    objects = words.count(len(checkpoint.bytes_entries), "object")
    yield (
        "holds",
        f"{words.count(len(checkpoint), 'key')}: {tensors} in {chunks}, {objects}; "
        f"{words.size(summary.nbytes)} of numbers",
    )
    if summary.dtypes:
        yield (
            "dtypes",
            ", ".join(f"{s.dtype} {words.size(s.nbytes)}" for s in summary.dtypes[:_MOST_NAMED])
            + (f" and {len(summary.dtypes) - _MOST_NAMED} more" * (len(summary.dtypes) > 4)),
        )
    for found in summary.packed:
        what = found.form or found.type
        yield (
            "packed",
            f"{words.count(len(found.fqns), 'tensor')} {'is' if len(found.fqns) == 1 else 'are'} "
            f"{printable(what)}: {words.size(found.packed_bytes)} for {words.size(found.nbytes)}",
        )
    if summary.layouts.words:
        yield "layout", Span(summary.layouts.words, STRONG)
    if summary.copies is not None:
        yield "copies", _copies(summary.copies)


def _copies(copies: Copies) -> Line:
    """What ranks saved of the same, each for itself."""
    said = f"{words.count(len(copies.of), 'key')} saved by several ranks"
    if copies.unknown:
        why = copies.unknown[0].reason
        said += f"; {len(copies.unknown):,} could not be compared: {why}"
    if not copies.differing:
        return said + ("" if copies.unknown else ", all copies equal")
    names = ", ".join(one.fqn for one in copies.differing[:_MOST_NAMED])
    more = len(copies.differing) - _MOST_NAMED
    return (
        Span(said),
        Span(f"; {len(copies.differing):,} differ between ranks: {names}", WARN),
        Span(f" and {more:,} more" if more > 0 else ""),
    )


def optimizer_facts(view: OptimizerView) -> Iterator[tuple[str, Line]]:
    """What the verdict rests on, a label each; nothing where there is no optimizer at all."""
    if not view.optimizers:
        return
    yield "kind", (Span(view.kind or "unknown", STRONG), Span(f": {view.how}" if view.how else ""))
    if view.slots:
        spans: list[Span] = []
        for slot, count in view.slots.items():
            tone = GOOD if count.present == count.expected else WARN
            comma = Span(", ") if spans else Span("")
            spans += [comma, Span(f"{slot} "), Span(f"{count.present}/{count.expected}", tone)]
        yield "state", tuple(spans)
    if view.steps:
        yield "step", _steps(view)
        yield from _witnesses(view)
    for share in view.shares if len(view.shares) > 1 else ():
        yield share.root, Span(share.words, TONES[share.verdict])
    for copy in view.sections.copies:
        of = copy.of or "the model"
        tensors = words.count(len(copy.names), "tensor")
        told = f": {tensors} with names and shapes of {of}, and no optimizer"
        yield "copy", (Span(copy.root, NAME), Span(told))
    for note in view.notes:
        yield "note", note


def _witnesses(view: OptimizerView) -> Iterator[tuple[str, Line]]:
    """What says another step than the optimizer's, a line for each step that is said."""
    at = max((step for step in view.steps if step == step), default=None)
    for step in dict.fromkeys(w.step for w in view.witnesses.sure if w.step != at):
        sources = view.witnesses.saying(step)
        verb = "says" if len(sources) == 1 else "say"
        yield "the job", Span(f"{enumerated(sources)} {verb} {words.step(step)}", WARN)


def _steps(view: OptimizerView) -> Line:
    steps = list(view.steps.items())
    if len(steps) == 1:
        return words.step(steps[0][0])
    shown = ", ".join(
        f"{words.step(step)} ({words.count(count, 'parameter')})"
        for step, count in steps[:_MOST_NAMED]
    )
    more = len(steps) - _MOST_NAMED
    return shown + (f" and {more} other steps" if more > 0 else "")


def _verdict(verdict: str) -> Span:
    return Span(verdict, TONES.get(verdict, ""))


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
