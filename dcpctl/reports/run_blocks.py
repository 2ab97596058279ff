"""Runs: the saves of each, newest first, what is odd about them, and which to resume from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dcpctl.inspect.runs import Run, Save
from dcpctl.model.positions import DATE, EPOCH, SAMPLES, TOKENS
from dcpctl.model.saves import Found
from dcpctl.reports import words
from dcpctl.reports.blocks import (
    DIM,
    NAME,
    STRONG,
    WARN,
    Block,
    Column,
    Heading,
    Line,
    Paragraph,
    Span,
    Table,
)
from dcpctl.reports.summary_blocks import TONES
from dcpctl.reports.unread import unread_block

EXPORT = "export"


def run_blocks(path: str, runs: Sequence[Run], found: Found | None = None) -> Iterator[Block]:
    """Say a listing.

    Args:
        path: what was asked for.
        runs: what was found there.
        found: where was looked.
    """
    if len(runs) > 1:
        saves = words.count(sum(len(run.saves) for run in runs), "save")
        yield Heading((Span(path, STRONG), Span(f"  {len(runs):,} runs, {saves}")), 1)
    for run in runs:
        count = f"  {words.count(len(run.saves), 'save')}, newest first"
        heading = (Span(str(run.path), STRONG), Span(count))
        yield Heading(heading, 1 if len(runs) == 1 else 2)
        yield from _blocks(run)
    if found is not None and found.unread:
        yield unread_block(found.unread)


def _blocks(run: Run) -> Iterator[Block]:
    yield Table(
        [
            Column("step", right=True),
            Column("save", folds=True),
            Column("optimizer"),
            Column("kind", folds=True),
            Column("its step", right=True),
            Column("keys", right=True),
            Column("bytes", right=True),
        ],
        [_row(save) for save in run.saves],
    )
    for save in run.saves:
        if save.error is not None:
            yield Paragraph((Span(save.name, NAME), Span(f": {save.sentence}")))
        elif save.absent_files:
            why = f": {run.why_incomplete(save)} ({', '.join(save.absent_files[:3])})"
            yield Paragraph((Span(save.name, NAME), Span(why, WARN)))
        elif save.moments_lost:
            yield Paragraph((Span(save.name, NAME), Span(f": {run.why_incomplete(save)}", WARN)))
    for newer, older in run.resets:
        yield Paragraph(
            (
                Span(newer.name, NAME),
                Span(
                    f": the optimizer was reset after {older.name}; it is at step "
                    f"{words.step(newer.steps[-1])}, and was at "
                    f"{words.step(older.steps[-1])} in the save before",
                    WARN,
                ),
            )
        )
    yield from _notes(run)
    yield from _newest(run)


def _notes(run: Run) -> Iterator[Block]:
    bare = sorted(run.never_trained)
    if bare:
        which = ", ".join(bare[:3]) + (f" and {len(bare) - 3:,} more" if len(bare) > 3 else "")
        yield Paragraph(
            Span(
                f"{words.count(len(bare), 'parameter')} without state in every save, so never "
                f"trained rather than lost: {which}. A load that asks for the state fails; dcpctl "
                "upgrade --fill-missing-state zeros adds it."
            )
        )
    pointers: dict[str, Save | str] = {link.name: save for save in run.saves for link in save.links}
    for name, named in (pointers | run.pointers).items():
        if isinstance(named, str):
            said = f" names {named}, which is not here. A job that resumes by it finds no save."
        elif why := run.why_not(named) * (not run.is_doubtful(named)):
            said = f" leads to {named.name}: {why}. A job that resumes by it gets that save."
        else:
            continue
        yield Paragraph((Span(name, NAME), Span(said, WARN)))


def _newest(run: Run) -> Iterator[Block]:
    """The save to resume from and the newest complete one, or why there is none."""
    complete, resume = run.newest_complete, run.resume_from
    yield _labelled("Resume from", resume, why_none(run, run.why_not))
    if resume is not None and run.is_doubtful(resume) and run.why_not(resume):
        bare = sorted(resume.bare)
        which = ", ".join(bare[:3]) + (f" and {len(bare) - 3:,} more" if len(bare) > 3 else "")
        said = f"{words.count(len(bare), 'parameter')} in it without state ({which}): "
        yield Paragraph(Span(said + "never got a gradient, or lost", WARN))
    yield _labelled("Newest complete save", complete, why_none(run, run.why_incomplete))
    if run.resets and resume is not None and resume in run.before_reset:
        yield _labelled("Newest before the reset", resume, "")


def _labelled(label: str, save: Save | None, why: str) -> Paragraph:
    if save is not None:
        return Paragraph((Span(f"{label}: "), Span(str(save.path), NAME)))
    return Paragraph((Span(f"{label}: "), Span(f"no save of this run ({why})", WARN)))


def why_none(run: Run, why_not: Callable[[Save], str]) -> str:
    """Return why no save of a run will do, the newest first, a clause."""
    reasons: dict[str, list[str]] = {}
    for save in run.saves:
        reasons.setdefault(why_not(save), []).append(save.name)
    return "; ".join(
        f"{names[0]}{f' and {len(names) - 1:,} more' if len(names) > 1 else ''}: {why}"
        for why, names in [*reasons.items()][:3]
    )


def _row(save: Save) -> list[Line]:
    readable = save.error is None
    name: tuple[Span, ...] = (Span(save.name, NAME),)
    if save.links:
        name += (Span(f" ({', '.join(link.name for link in save.links)})", DIM),)
    verdict = EXPORT if save.weights_only else save.verdict
    return [
        _step(save),
        name,
        Span(verdict, TONES.get(verdict, "")),
        save.kind or Span("-", DIM),
        ", ".join(words.step(step) for step in save.steps[:2]) if save.steps else "",
        f"{save.keys:,}" if readable else "",
        words.size(save.nbytes) if readable else "",
    ]


def _step(save: Save) -> str:
    if save.step is not None:
        return str(save.step)
    at = save.position
    return at.words if at is not None and at.unit in (DATE, EPOCH, SAMPLES, TOKENS) else ""
