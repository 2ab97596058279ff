"""What a stock load of A in a run with B's state dict would do, where that is not what is hoped."""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.diff.difference import Difference
from dcpctl.model.loading import LoadPreview
from dcpctl.reports import words
from dcpctl.reports.blocks import BAD, DIM, WARN, Block, Heading, Literal, Paragraph, Span
from dcpctl.reports.diff_keys import command_lines

_NAMED = 3


def load_blocks(found: Difference) -> Iterator[Block]:
    """Say what raises, and what is silently left on disk: the loudest where nothing raises."""
    load = found.load
    if load is None:
        return
    if not (load.skipped or load.raises or load.converted or load.replaced or found.misplaced):
        return
    yield Heading("dcp.load of A in a run whose state dict is B's")
    if load.raises:
        yield Paragraph((Span("raises: ", BAD), Span(load.error_text), *_raised(load)))
    if found.remedy:
        yield Literal("\n".join(command_lines(str(found.a.path), [found.remedy])))
    if load.skipped:
        # What raises is noticed; what is silently lost is not, until it is too late.
        loud = (Span("would also skip: ") if load.raises else Span("SILENTLY SKIPS: ", BAD),)
        yield Paragraph((*loud, *_skipped(found, load)))
    if found.misplaced:
        old, new = found.misplaced[0]
        said = f"{words.count(len(found.misplaced), 'key')}, such as {new}: what it is in B"
        yield Paragraph((Span("LOADS SOMETHING ELSE: ", BAD), Span(f"{said} is {old} in A")))
    if load.converted:
        first = load.converted[0]
        yield Paragraph(
            (
                Span("converts silently: ", WARN),
                Span(f"{words.count(len(load.converted), 'tensor')} to another dtype, such as "),
                Span(f"{first.fqn}, {first.stored.dtype} -> {first.asked.dtype}"),
            )
        )
    if load.replaced:
        names = _named([pair.fqn for pair in load.replaced])
        yield Paragraph(
            (Span("not loaded: ", BAD), Span(f"{names}: A has an object there, and no tensor"))
        )


def _skipped(found: Difference, load: LoadPreview) -> Iterator[Span]:
    count = words.count(len(load.skipped), "key")
    yield Span(f"{count} of A that B's state dict does not ask for; torch says nothing of it.")
    lost = load.skipped_optimizer
    if lost is None:
        yield Span(f" Such as {_named(load.skipped)}.", DIM)
        return
    parts = [words.count(len(lost.fqns), "key")]
    if lost.parameters:
        parts.append(f"the state of {words.count(lost.parameters, 'parameter')}")
    if lost.nbytes:
        parts.append(words.size(lost.nbytes))
    which = "All of the optimizer" if lost.whole else "Of the optimizer"
    yield Span(f" {which}: {', '.join(parts)}.")
    if found.anew and not load.raises:
        those = words.count(len(found.anew), "parameter")
        yield Span(f" The optimizer would start from zero moments for {those}.", BAD)


def _raised(load: LoadPreview) -> Iterator[Span]:
    """How many keys raise, beyond the one that torch names first."""
    clauses = []
    if len(load.missing) > 1:
        clauses.append(f"{len(load.missing):,} keys in all that A lacks")
    if load.mismatched and len(load.mismatched) + len(load.missing) > 1:
        clauses.append(f"{words.count(len(load.mismatched), 'key')} of another shape")
    if clauses:
        yield Span(f" ({' and '.join(clauses)})", DIM)


def _named(fqns: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(fqns) - _NAMED:,} more" if len(fqns) > _NAMED else ""
    return ", ".join(fqns[:_NAMED]) + more
