"""Selecting entries: everything else is left out."""

from __future__ import annotations

from collections.abc import Sequence

from dcpctl.errors import UsageError
from dcpctl.model.draft import Draft
from dcpctl.surgery.globs import in_section, selected
from dcpctl.surgery.keep import keep, keep_with_state
from dcpctl.surgery.names import Names, survey
from dcpctl.surgery.outcome import Outcome


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
    names = survey(draft)
    chosen = set(choose(draft, names, globs, section))
    if with_state:
        return keep_with_state(draft, names, chosen)
    return keep(draft, names, chosen)


def choose(draft: Draft, names: Names, globs: Sequence[str], section: str | None) -> list[str]:
    """Return the FQNs that globs match among a section's, or all of the section.

    Raises:
        NothingSelected: a glob matches nothing, or there is no such section.
        UsageError: neither globs nor a section.
    """
    among = None if section is None else in_section(names.sections, section)
    if not globs:
        if among is None:
            raise UsageError("no keys are asked for", hint="dcpctl inspect --keys lists them")
        return among
    return selected(draft, globs, None if among is None else set(among))
