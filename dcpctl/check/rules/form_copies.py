"""DCP4xx: do the copies that ranks saved of the same thing agree?"""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.finding import ERROR, INFO
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.model.copies import compare_copies
from dcpctl.model.sections import MODEL, OPTIMIZER


@rule("DCP410", INFO, "the copies on the ranks differ")
def differing(run: Run) -> Iterator[Hit]:
    """Entries that every rank saved for itself and of which the ranks have different ones."""
    copies = compare_copies(run.checkpoint)
    if copies is None:
        return
    sections: dict[str, list[str]] = {}
    for one in copies.differing:
        sections.setdefault(run.optimizer.sections.of[one.fqn], []).append(one.fqn)
    for section, fqns in sections.items():
        trained = section in (MODEL, OPTIMIZER)
        yield Hit(
            fqns[0],
            f"{words.count(len(fqns), f'{section} key')} with another value on each rank "
            f"({words.some(fqns)}): "
            + (
                "the ranks trained apart, though what is replicated has to be equal"
                if trained
                else "a result with one .metadata keeps one rank's, which --keep-rank names"
            ),
            severity=ERROR if trained else None,
        )
    if copies.unknown:
        raise CannotRun(
            f"copies of {words.count(len(copies.unknown), 'key')} could not be compared: "
            f"{copies.unknown[0].reason}"
        )
