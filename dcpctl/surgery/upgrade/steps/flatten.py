"""Step `flatten`: pickled dicts to an entry a leaf, as 2.4 and later have them; and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from dcpctl.errors import Refused, listed
from dcpctl.formats.metadata import DCP
from dcpctl.formats.pickles.standins import TensorRef
from dcpctl.formats.records import StoredTensor
from dcpctl.model import tree
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.draft import BytesDraft, Draft, EntryDraft, TensorDraft
from dcpctl.model.entry import BytesEntry, TensorEntry
from dcpctl.model.optimizer.places import places_of
from dcpctl.model.source import NewValue
from dcpctl.model.tree import Path
from dcpctl.surgery.upgrade import inner_tensors
from dcpctl.surgery.upgrade.engine import Context, Done, step, stored_parts


@step("flatten", 10)
def flatten(draft: Draft, context: Context) -> Done:
    """Give dicts the form in which the target looks for them.

    2.0 to 2.3 keep a dict without tensors whole (`param_groups`, a scheduler's state), 1.13 keeps
    all; 2.4 and later look for an entry a leaf. All are opened or none: a release that finds one
    of them whole falls back to the old form for all.

    Raises:
        Refused: an opened key is one that the checkpoint has already, or a tensor inside a dict
            of 1.13 cannot be taken out.
    """
    if context.flattens:
        old = any(
            part.form == DCP and part.fields.get("storage_meta") is None
            for part in stored_parts(draft)
        )
        return _open_all(draft) if old else Done(draft)
    if context.release < (2, 0):
        flat = "torch 1.13 flattens nothing: load with a flat state dict of these keys"
        return Done(draft, 0, flat if draft.planner_data else "")
    return _close_all(draft)


# -- opening -------------------------------------------------------------------------------------


def _open_all(draft: Draft) -> Done:
    opener = _Opener(draft)
    whole: dict[str, str] = {}
    opened: dict[str, list[tuple[Path, Any]]] = {}
    for fqn, entry in draft.entries.items():
        if isinstance(entry, BytesDraft) and (parts := opener.leaves(entry)) is not None:
            opened[fqn] = parts
            for kind in opener.unknown(fqn, parts):
                whole.setdefault(fqn, kind)
    if not opened:
        return Done(draft)
    if whole:
        kinds = ", ".join(dict.fromkeys(whole.values()))
        return Done(
            draft,
            0,
            f"{listed(list(whole))} holds {kinds}, which cannot be pickled again; all dicts stay "
            "whole, as torch 2.5 and later still read them",
        )
    return opener.rebuild(opened)


class _Opener:
    """Opens bytes entries of a draft, with the tensors in them."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.values: dict[str, inner_tensors.Opened] = {}

    def leaves(self, entry: BytesDraft) -> list[tuple[Path, Any]] | None:
        """The leaves of an entry that is to be opened, None for any other."""
        if not tree.is_opened(entry.value):
            return None
        value, source = entry.value, entry.source.entry
        if source is not None:
            found = inner_tensors.open_value(self._checkpoint(source), source)
            if found is not None and _has_tensors(value):
                self.values[entry.fqn] = found
                value = found.value
        path = (self.draft.planner_data or {}).get(entry.fqn) or (entry.fqn,)
        return list(tree.leaves(value, path))

    def unknown(self, fqn: str, parts: list[tuple[Path, Any]]) -> Iterable[str]:
        """Types that cannot be pickled again, in leaves that are no tensors."""
        found = self.values.get(fqn)
        for number, (path, value) in enumerate(parts):
            if isinstance(value, TensorRef):
                continue
            if found is not None:
                value = found.settled(value)
                parts[number] = (path, value)
            yield from tree.unknown_parts(value)

    def rebuild(self, opened: dict[str, list[tuple[Path, Any]]]) -> Done:
        """Make the draft with an entry a leaf."""
        tensors, sources = self._tensors(opened)
        entries: dict[str, EntryDraft] = {}
        twice: list[str] = []
        planner: dict[str, Path] = {}
        old = self.draft.planner_data
        places = {} if old is None else dict(old)
        made = 0
        for fqn, entry in self.draft.entries.items():
            new: list[tuple[EntryDraft, Path]] = [(entry, places.get(fqn, (fqn,)))]
            if fqn in opened and isinstance(entry, BytesDraft):
                new = [
                    (_leaf(name, value, tensors, entry), path)
                    for path, value in opened[fqn]
                    for name in [".".join(map(str, path))]
                ]
                made += len(new)
            for item, path in new:
                if item.fqn in entries:
                    twice.append(item.fqn)
                entries[item.fqn] = item
                planner[item.fqn] = path
        if twice:
            raise Refused(f"opened dicts have keys that are there already: {listed(twice)}")
        draft = self.draft.with_entries(entries.values(), _in_old_order(places, opened, planner))
        draft = dataclasses.replace(draft, sources=(*draft.sources, *sources))
        gone = sum(not parts for parts in opened.values())
        note = f"{len(opened):,} pickled {_plural('dict', len(opened))} opened into {made:,} keys"
        if gone:
            note += f"; {gone:,} of them empty, which 2.4 and later do not save"
        return Done(draft, len(opened), note)

    def _tensors(
        self, opened: dict[str, list[tuple[Path, Any]]]
    ) -> tuple[dict[str, TensorEntry], list[Checkpoint]]:
        """Tensor entries for the tensors in opened values, and the sources that they belong to."""
        found: dict[str, TensorEntry] = {}
        sources: list[Checkpoint] = []
        groups: dict[int, tuple[Checkpoint, Any, dict[str, StoredTensor]]] = {}
        for fqn, parts in opened.items():
            held = self.values.get(fqn)
            for path, value in parts:
                if held is None or not isinstance(value, TensorRef):
                    continue
                checkpoint = self._checkpoint(held.entry)
                part = inner_tensors.part_of(checkpoint, held.entry)
                name = ".".join(map(str, path))
                stored = held.stored(name, value, held.entry.file - part.first_file)
                groups.setdefault(id(part), (checkpoint, part, {}))[2][name] = stored
        for checkpoint, part, stored_tensors in groups.values():
            source = inner_tensors.beside(checkpoint, part, stored_tensors)
            sources.append(source)
            found.update(source.tensors)
        return found, sources

    def _checkpoint(self, entry: BytesEntry) -> Checkpoint:
        return next(c for c in self.draft.sources if c.entries.get(entry.fqn) is entry)


def _leaf(fqn: str, value: Any, tensors: dict[str, TensorEntry], entry: BytesDraft) -> EntryDraft:
    if fqn in tensors:
        found = tensors[fqn]
        return TensorDraft(fqn, found.shape, found.dtype, found, rank=entry.rank or 0)
    return BytesDraft(fqn, NewValue(value), entry.rank)


def _in_old_order(
    old: dict[str, Path], opened: dict[str, list[tuple[Path, Any]]], new: dict[str, Path]
) -> dict[str, Path]:
    """Object paths in the order of the state dict: leaves where their dict stood."""
    made: dict[str, Path] = {}
    for fqn, path in old.items():
        if fqn in opened:
            for leaf, _ in opened[fqn]:
                made[".".join(map(str, leaf))] = leaf
        else:
            made[fqn] = path
    for fqn, path in new.items():
        made.setdefault(fqn, path)
    return made


def _has_tensors(value: Any) -> bool:
    return any(_is_tensor(leaf) for _, leaf in tree.leaves(value))


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


# -- closing -------------------------------------------------------------------------------------


def _close_all(draft: Draft) -> Done:
    if draft.planner_data is None:
        return Done(draft)
    paths = {f: draft.planner_data[f] for f in draft.planner_data if f in draft.entries}
    root = tree.grow(paths)
    if root is None:
        return Done(draft, 0, "the object paths contradict each other; keys stay as they are")
    tensors = frozenset(f for f, e in draft.entries.items() if isinstance(e, TensorDraft))
    made: dict[str, tuple[Path, Any, list[str]]] = {}
    places, _ = places_of(draft.planner_data.items(), tensors)
    for node in tree.closed(root, tensors):
        fqns = list(node.fqns())
        values = {fqn: _value(draft.entries[fqn]) for fqn in fqns}
        of_optimizer = any(fqn in places for fqn in fqns)
        value = tree.value_of(node, values, of_optimizer)
        unknown = list(tree.unknown_parts(value))
        if value is None or unknown:
            raise Refused(
                f"{listed(fqns)} cannot be put into one pickled value"
                + (f", since it holds {unknown[0]}" if unknown else ": indices are missing")
            )
        made[".".join(map(str, node.path))] = (node.path, value, fqns)
    if not made:
        return Done(draft)
    whose = {fqn: name for name, (_, _, fqns) in made.items() for fqn in fqns}
    entries: dict[str, EntryDraft] = {}
    for fqn, entry in draft.entries.items():
        name = whose.get(fqn)
        if name is None:
            entries[fqn] = entry
        elif name not in entries:
            entries[name] = BytesDraft(name, NewValue(made[name][1]))
    planner: dict[str, Path] = {}
    for fqn, path in draft.planner_data.items():
        name = whose.get(fqn)
        planner[name or fqn] = made[name][0] if name is not None else path
    changed = draft.with_entries(entries.values(), planner)
    note = (
        f"{len(whose):,} keys put together into {len(made):,} pickled {_plural('value', len(made))}"
    )
    return Done(changed, len(made), note)


def _value(entry: EntryDraft) -> Any:
    assert isinstance(entry, BytesDraft)
    return entry.value


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"
