"""`merge`: put checkpoints together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dcpctl.surgery.options import Option, given, paths
from dcpctl.surgery.verbs import Open, Verb

if TYPE_CHECKING:
    from dcpctl.model.draft import Draft
    from dcpctl.surgery.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Merge(Verb):
    """Put several checkpoints together into one.

    The model's directory and the optimizer's, or the parts of a pipeline (one SRC that holds pp0/,
    pp1/ ... counts as its parts). A key that several have must stand for the same in all of them.
    Param groups may differ in their params lists, which are joined.

    Examples:
      dcpctl select sample_checkpoints/healthy/step-8500 out/a --model-only
      dcpctl drop sample_checkpoints/healthy/step-8500 out/b --model-only
      dcpctl merge out/a out/b out/whole
    """

    verb = "merge"
    order = 70
    anew = "a merge makes a new directory"
    joins = True

    paths: tuple[Path, ...] = given(
        Option(
            (),
            paths(),
            metavar="PATH",
            help="Checkpoints, and the directory to make.",
            key="with",
            step="Add another checkpoint's keys.",
            sources=True,
        )
    )

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit, as `parts.joining.merge` does."""
        from dcpctl.model.draft import Draft
        from dcpctl.surgery.parts.joining import merge

        return merge([draft, *(Draft.of(open_(path)) for path in self.paths)])
