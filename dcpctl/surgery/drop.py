"""`drop`: leave out entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dcpctl.errors import Refused
from dcpctl.surgery.options import OPTIMIZER_OF, SECTION, Option, flag, given, globs
from dcpctl.surgery.verbs import Open, Verb

if TYPE_CHECKING:
    from dcpctl.model.draft import Draft
    from dcpctl.surgery.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Drop(Verb):
    """Leave out keys.

    A dropped parameter of the model keeps its optimizer state and its place in params lists;
    --with-state takes them too. --model-only and --optimizer-only choose among the keys of the
    model or the optimizer, and without a glob all of them.

    Examples:
      dcpctl drop sample_checkpoints/healthy/step-8500 out/no-scheduler 'lr_scheduler.*'
      dcpctl drop sample_checkpoints/healthy/step-8500 out/short 'model.layers.1' --with-state
      dcpctl drop sample_checkpoints/healthy/step-8500 out/weights --optimizer-only
      dcpctl drop out/weights train_state --in-place
    """

    verb = "drop"
    order = 40
    needs = ("globs", "section")

    globs: tuple[str, ...] = given(globs("Leave these keys out."))
    section: str | None = given(*SECTION)
    with_state: bool = given(
        Option(
            ("--with-state",),
            flag(),
            help="Drop also the optimizer state of dropped parameters.",
            key="with_state",
            beside="optimizer state too.",
        )
    )
    optimizer_of: tuple[tuple[str, str], ...] = given(OPTIMIZER_OF)

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit, as `drop` does."""
        return drop(draft, self.globs, section=self.section, with_state=self.with_state)


def drop(
    draft: Draft, globs: Sequence[str] = (), *, section: str | None = None, with_state: bool = False
) -> Outcome:
    """Leave out the entries that globs match; the others stay byte for byte.

    A parameter of the model that is dropped keeps its optimizer state and its place in `params`
    lists, unless `with_state` takes them too.

    Args:
        draft: the checkpoint.
        globs: FQNs; none for all of `section`.
        section: choose only among the entries of this section, such as `model`.
        with_state: drop also the optimizer state of dropped parameters, and their names.

    Raises:
        NothingSelected: a glob matches nothing, or there is no such section.
        Refused: nothing would be left, or state is known by indices that cannot be renumbered.
    """
    from dcpctl.surgery.names.globs import choose
    from dcpctl.surgery.names.keep import keep, orphaned_state, parameters_at, remaining_names
    from dcpctl.surgery.names.survey import survey

    names = survey(draft)
    gone = set(choose(draft, names, globs, section))
    if len(gone) == len(draft.entries):
        raise Refused("nothing would be left of the checkpoint")
    dropped = parameters_at(names, gone)
    warnings: list[str] = []
    if with_state and dropped:
        stay = {fqn for fqn in draft.entries if fqn not in gone}
        return keep(draft, names, stay, without=dropped)
    orphans = orphaned_state(draft, names, gone, dropped)
    if orphans and globs:
        warnings.append(
            f"{len(orphans):,} of the dropped parameters still have optimizer state; "
            "--with-state drops it too"
        )
    unnamed = remaining_names(draft, names, gone)
    if unnamed:
        warnings.append(unnamed)
    return keep(draft, names, {f for f in draft.entries if f not in gone}, warnings=warnings)
