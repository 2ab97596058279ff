"""Choosing entries: globs over FQNs, and sections."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dcpctl.errors import NothingSelected, UsageError, listed
from dcpctl.model.draft import Draft
from dcpctl.model.globs import matching
from dcpctl.model.sections import Sections
from dcpctl.surgery.names.survey import Names


def selected(draft: Draft, globs: Sequence[str], among: Collection[str] | None = None) -> list[str]:
    """Return the FQNs that any of several globs matches, in the order of the draft.

    Args:
        draft: the checkpoint.
        globs: at least one.
        among: the FQNs to choose from; None for all.

    Raises:
        NothingSelected: one of the globs matches none of them.
    """
    names = [fqn for fqn in draft.entries if among is None or fqn in among]
    found: set[str] = set()
    barren: list[str] = []
    for glob in globs:
        hits = matching(names, glob)
        found.update(hits)
        if not hits:
            barren.append(glob)
    if barren:
        raise NothingSelected(f"no key matches {listed(barren)}", hint=_nearest(draft, barren[0]))
    return [fqn for fqn in names if fqn in found]


def in_section(sections: Sections, section: str) -> list[str]:
    """Return the FQNs of one section, in the order of the entries.

    Raises:
        NothingSelected: the checkpoint has no such section.
    """
    found = list(sections.members(section))
    if not found:
        have = sorted(set(sections.of.values()))
        raise NothingSelected(
            f"the checkpoint has no {section}", hint=f"its sections: {', '.join(have)}"
        )
    return found


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


def _nearest(draft: Draft, name: str) -> str:
    """A next step: keys that contain the last component of what was asked for."""
    core = name.strip("*?").rpartition(".")[2].strip("*?") or name
    like = [fqn for fqn in draft.entries if core and core in fqn]
    if like:
        return f"there is {listed(like, 3)}"
    return "dcpctl inspect --keys lists all of them"
