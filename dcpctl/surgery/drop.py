"""Dropping entries."""

from __future__ import annotations

from collections.abc import Sequence

from dcpctl.errors import Refused
from dcpctl.model.draft import Draft
from dcpctl.surgery.keep import keep, orphaned_state, parameters_at, remaining_names
from dcpctl.surgery.names import survey
from dcpctl.surgery.outcome import Outcome
from dcpctl.surgery.select import choose


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
