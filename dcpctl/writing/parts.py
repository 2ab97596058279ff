"""The directories of a result: a save in parts stays in parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dcpctl.model.checkpoint import Part
from dcpctl.model.draft import Draft

Path = tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PartDraft:
    """What becomes one directory with metadata of its own.

    Attributes:
        name: path relative to the destination, with slashes; empty for the destination itself.
        draft: its entries, under the FQNs that its metadata has.
        source: the part of the first source that it is made of; None where several are joined.
        files: numbers of that part's shard files among those of all sources.
    """

    name: str
    draft: Draft
    source: Part | None = None
    files: range = range(0)

    @property
    def unchanged(self) -> bool:
        """Whether the directory is to be what it is already."""
        source, draft = self.source, self.draft
        if source is None or draft.form is not None or draft.rewritten:
            return False
        known = source.stored.entries
        same = list(draft.entries) == list(known) and all(
            entry.untouched and getattr(entry.source.entry, "stored", None) is known[fqn]
            for fqn, entry in draft.entries.items()
        )
        if not same or (draft.fields is not None and dict(draft.fields) != source.stored.fields):
            return False
        planner = None if draft.planner_data is None else dict(draft.planner_data)
        return planner == source.stored.planner_data


def part_drafts(draft: Draft) -> list[PartDraft]:
    """Divide a draft among the parts that its source has.

    An entry stays in the part that it comes from. A new one goes to the part that has, or had, the
    key, else to the one with the key most like it. A part that has no entry left is none.

    Args:
        draft: the whole result.
    """
    if draft.members:
        return [part for member in draft.members for part in part_drafts(member)]
    if draft.joined or not draft.sources:
        return [PartDraft("", draft)]
    first = draft.sources[0]
    parts = {part.name: part for part in first.parts if not draft.only or part.name in draft.only}
    if not first.homes or list(parts) == [""]:
        only = first.parts[0] if list(parts) == [""] else None
        files = range(len(first.files)) if only is not None else range(0)
        return [PartDraft("", draft, only, files)]
    homes = _homes(draft)
    found = []
    for name, part in parts.items():
        own = {fqn: _local(draft, fqn, name) for fqn, home in homes.items() if home == name}
        if not own:
            continue
        entries = [dataclasses.replace(draft.entries[fqn], fqn=to) for fqn, to in own.items()]
        made = draft.with_entries(entries, _planner(draft, part, own))
        if draft.fields is None:
            made = dataclasses.replace(made, fields=_fields(part))
        files = range(part.first_file, part.first_file + len(part.stored.files))
        found.append(PartDraft(name, made, part, files))
    return found


def _homes(draft: Draft) -> dict[str, str]:
    """FQN of the draft -> name of the part that it goes to, in the order of the draft."""
    by_entry = {
        id(entry): source.homes[fqn][0]
        for source in draft.sources
        for fqn, entry in source.entries.items()
        if fqn in source.homes
    }
    before = _before(draft)
    known: dict[str, str] = {}
    for fqn, entry in draft.entries.items():
        home = by_entry.get(id(entry.source)) or _had(draft, before, fqn)
        if home is not None:
            known[fqn] = home
    prefixes: dict[str, str] = {}
    for fqn, home in (*known.items(), *before.items()):
        for prefix in _prefixes(fqn):
            prefixes.setdefault(prefix, home)
    alone = draft.only[0] if draft.only else draft.sources[0].parts[0].name
    return {
        fqn: known[fqn]
        if fqn in known
        else next((prefixes[p] for p in _prefixes(fqn) if p in prefixes), alone)
        for fqn in draft.entries
    }


def _before(draft: Draft) -> dict[str, str]:
    """The first source's keys, as the draft calls them, and the parts that have them."""
    homes = draft.sources[0].homes
    if not draft.only:
        return {fqn: home for fqn, (home, _) in homes.items()}
    return {local: home for home, local in homes.values() if home in draft.only}


def _had(draft: Draft, before: Mapping[str, str], fqn: str) -> str | None:
    """The part of the first source that has a key, or whose name the key begins with."""
    parts = draft.sources[0].parts
    if fqn in before:
        return before[fqn]
    return next((p.name for p in parts if p.name and fqn.startswith(f"{p.name}/")), None)


def _prefixes(fqn: str) -> Iterator[str]:
    """The key and what it begins with, the longest first."""
    end = len(fqn)
    while end > 0:
        yield fqn[:end]
        end = fqn.rfind(".", 0, end)


def _local(draft: Draft, fqn: str, part: str) -> str:
    """What a part itself calls an entry: without the part's name, which tells equal keys apart."""
    home = None if draft.only else draft.sources[0].homes.get(fqn)
    return home[1] if home is not None and home[0] == part else fqn.removeprefix(f"{part}/")


def _planner(draft: Draft, part: Part, own: Mapping[str, str]) -> dict[str, Path] | None:
    """The object paths of one part's entries; None where it has none."""
    planner = draft.planner_data
    if planner is None:
        return None
    stored = part.stored.planner_data
    found = {}
    for fqn, local in own.items():
        path = planner.get(fqn)
        if path is None and stored is not None:
            path = stored.get(local)
        if path and local != fqn and isinstance(path[0], str):
            path = (path[0].removeprefix(f"{part.name}/"), *path[1:])
        if path is not None:
            found[local] = path
    # Paths of what is no entry, such as an empty container, stay with whoever had them.
    more = {f: p for f, p in planner.items() if f not in draft.entries and f in (stored or ())}
    if stored is None and not found:
        return None
    return {**found, **more}


def _fields(part: Part) -> dict[str, Any]:
    return dict(part.stored.fields) if part.stored.form.pickled else {}
