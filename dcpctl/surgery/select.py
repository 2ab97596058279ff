"""`select`: keep some entries, and leave out all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dcpctl.surgery.options import OPTIMIZER_OF, SECTION, Option, flag, given, globs
from dcpctl.surgery.verbs import Open, Verb

if TYPE_CHECKING:
    from dcpctl.model.draft import Draft
    from dcpctl.surgery.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Select(Verb):
    """Keep some keys, and leave out all others.

    With --with-state the optimizer keeps the state of the selected parameters, and its param
    groups with the names of these alone. --model-only and --optimizer-only choose among the keys
    of the model or the optimizer, and without a glob all of them.

    Examples:
      dcpctl select sample_checkpoints/healthy/step-8500 out/model --model-only
      dcpctl select sample_checkpoints/healthy/step-8500 out/layer 'model.layers.0' --with-state
      dcpctl select sample_checkpoints/legacy out/moments '*.exp_avg' '*.exp_avg_sq'
    """

    verb = "select"
    order = 50
    needs = ("globs", "section")

    globs: tuple[str, ...] = given(globs("Keep only these keys."))
    section: str | None = given(*SECTION)
    with_state: bool = given(
        Option(
            ("--with-state",),
            flag(),
            help="Keep also the optimizer state of the selected parameters.",
            key="with_state",
            beside="optimizer state too.",
        )
    )
    optimizer_of: tuple[tuple[str, str], ...] = given(OPTIMIZER_OF)

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit, as `select` does."""
        return select(draft, self.globs, section=self.section, with_state=self.with_state)


def select(
    draft: Draft, globs: Sequence[str] = (), *, section: str | None = None, with_state: bool = False
) -> Outcome:
    """Keep the entries that globs match, and no others.

    Args:
        draft: the checkpoint.
        globs: FQNs; none for all of `section`.
        section: choose only among the entries of this section, such as `model`.
        with_state: keep also the optimizer state of the selected parameters, and the param groups
            with the names of these parameters alone.

    Raises:
        NothingSelected: a glob matches nothing, or there is no such section.
        Refused: state is known by indices that cannot be renumbered.
    """
    from dcpctl.surgery.names.globs import choose
    from dcpctl.surgery.names.keep import keep, keep_with_state
    from dcpctl.surgery.names.survey import survey

    names = survey(draft)
    chosen = set(choose(draft, names, globs, section))
    if with_state:
        return keep_with_state(draft, names, chosen)
    return keep(draft, names, chosen)
