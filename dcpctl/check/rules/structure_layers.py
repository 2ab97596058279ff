"""DCP1xx: are all layers of the model there?"""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.finding import WARNING
from dcpctl.check.registry import Hit, rule
from dcpctl.check.run import Run
from dcpctl.errors import quote
from dcpctl.model.sections import MODEL
from dcpctl.model.stages import missing_numbers

_SHOWN = 5


@rule("DCP111", WARNING, "layers are missing from the numbering")
def layers(run: Run) -> Iterator[Hit]:
    """Numbers that a list of equal blocks skips, as where a pipeline stage was not saved."""
    of, tensors = run.optimizer.sections.of, run.checkpoint.tensors
    shapes = {fqn: entry.shape for fqn, entry in tensors.items() if of[fqn] == MODEL}
    for gap in missing_numbers(shapes):
        shown = ", ".join(map(str, gap.missing[:_SHOWN]))
        more = len(gap.missing) - _SHOWN
        yield Hit(
            gap.example,
            f"{quote(gap.prefix)} has {words.count(len(gap.present), 'block')} numbered "
            f"{gap.present[0]} to {gap.present[-1]}; {len(gap.missing):,} between them "
            f"{'is' if len(gap.missing) == 1 else 'are'} missing: {shown}"
            + (f" and {more:,} more" if more > 0 else ""),
        )
