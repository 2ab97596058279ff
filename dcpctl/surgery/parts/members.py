"""A save whose parts have keys in common: models side by side, each edited as it would be alone.

`actor/` and `critic/` of a reinforcement learning job have the same keys for different tensors, and
pipeline stages each a step. One draft could only keep one of each key, so that every group of parts
that belong together is a draft of its own, and the parts stay what they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from dcpctl.errors import NothingSelected
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.draft import Draft, EntryDraft
from dcpctl.surgery.outcome import Outcome


def members(draft: Draft) -> list[Draft]:
    """Divide a draft whose parts have keys in common; itself alone where none have.

    Parts in one directory (`actor/model`, `actor/optim`) belong together where they have no keys in
    common; else each is alone.
    """
    checkpoint = draft.sources[0]
    locals_ = [local for _, local in checkpoint.homes.values()]
    if len(draft.sources) > 1 or len(set(locals_)) == len(locals_):
        return [draft]
    return [_member(checkpoint, names) for names in _groups(checkpoint)]


def _groups(checkpoint: Checkpoint) -> list[tuple[str, ...]]:
    by_parent: dict[str, list[str]] = {}
    for part in checkpoint.parts:
        by_parent.setdefault(part.name.rpartition("/")[0], []).append(part.name)
    found: list[tuple[str, ...]] = []
    for names in by_parent.values():
        keys = [local for name, local in checkpoint.homes.values() if name in names]
        apart = len(set(keys)) < len(keys)
        found += [(name,) for name in names] if apart else [tuple(names)]
    return found


def _member(checkpoint: Checkpoint, names: tuple[str, ...]) -> Draft:
    """The draft of some parts, under the keys that they have themselves."""
    whole = Draft.of(checkpoint)
    entries: list[EntryDraft] = []
    planner = None
    for key, (name, local) in checkpoint.homes.items():
        if name in names:
            entries.append(dataclasses.replace(whole.entries[key], fqn=local))
    for part in checkpoint.parts:
        if part.name in names and part.stored.planner_data is not None:
            planner = {**(planner or {}), **part.stored.planner_data}
    made = whole.with_entries(entries, planner)
    return dataclasses.replace(made, only=names)


def label(member: Draft) -> str:
    """What a member is called: its part, or the directory around its parts."""
    parent = member.only[0].rpartition("/")[0]
    return member.only[0] if len(member.only) == 1 else parent


def each(held: Sequence[Draft], act: Callable[[Draft], Outcome]) -> tuple[list[Draft], Outcome]:
    """Make an edit of every member that it is about.

    Args:
        held: the members.
        act: makes the edit of one.

    Returns:
        The members as they are then, and what was done to all of them, each key behind the name of
        its part.

    Raises:
        NothingSelected: the edit is about none of them.
        As the edit.
    """
    made: list[Draft] = []
    outcomes: list[tuple[str, Outcome]] = []
    idle: list[str] = []
    nothing: NothingSelected | None = None
    for member in held:
        try:
            outcome = act(member)
        except NothingSelected as error:
            nothing = error
            idle.append(label(member))
            made.append(member)
            continue
        made.append(outcome.draft)
        outcomes.append((label(member), outcome))
    if nothing is not None and not outcomes:
        raise nothing
    changes = [
        dataclasses.replace(change, fqn=f"{name}/{change.fqn}" if change.fqn else name)
        for name, outcome in outcomes
        for change in outcome.changes
    ]
    notes = [f"{name}: {note}" for name, outcome in outcomes for note in outcome.notes]
    if idle:
        verb = "has nothing of that name and stays as it is"
        notes += [f"{name} {verb}" for name in idle]
    warnings = [f"{name}: {text}" for name, outcome in outcomes for text in outcome.warnings]
    return made, Outcome(joined(made), tuple(changes), tuple(notes), tuple(warnings))


def joined(held: Sequence[Draft]) -> Draft:
    """The members as the one draft that the writer is given."""
    if len(held) == 1:
        return held[0]
    entries: dict[str, EntryDraft] = {}
    for member in held:
        for fqn, entry in member.entries.items():
            old = None if entry.source.entry is None else entry.source.entry.fqn
            same = old is not None and member.sources[0].homes.get(old, ("", ""))[1] == fqn
            key = old if same and old is not None else fqn
            key = key if key not in entries else f"{label(member)}/{fqn}"
            entries[key] = dataclasses.replace(entry, fqn=key)
    sources = tuple({id(s): s for member in held for s in member.sources}.values())
    made = dataclasses.replace(held[0], sources=sources, only=(), members=tuple(held))
    return made.with_entries(entries.values(), None)
