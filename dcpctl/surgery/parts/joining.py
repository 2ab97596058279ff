"""Merging checkpoints: the model's directory and the optimizer's, or the parts of a pipeline."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dcpctl.errors import Refused, listed, printable, quote
from dcpctl.model import boxes
from dcpctl.model.checkpoint import Part
from dcpctl.model.draft import BytesDraft, Draft, EntryDraft, TensorDraft
from dcpctl.model.source import NewValue
from dcpctl.surgery.names.survey import GROUPS, NAME_LISTS, PARAMS, survey
from dcpctl.surgery.names.values import alike, same
from dcpctl.surgery.outcome import Change, Outcome

Path = tuple[Any, ...]
#: Bytes of two tensors that are compared at a time.
_BLOCK = 4 << 20


def merge(drafts: Sequence[Draft]) -> Outcome:
    """Put checkpoints together into one.

    An entry that several have must be the same object in all of them. Of param groups the
    hyperparameters must agree, and their lists of names are joined in the order of the drafts.

    Args:
        drafts: at least one; one whose checkpoint is made of parts (`pp0/`, `pp1/`) counts as its
            parts.

    Raises:
        Refused: an FQN stands for different things, or two lists name their parameters by
            positions.
    """
    parts = [part for draft in drafts for part in parted(draft)]
    if len(parts) < 2:
        raise Refused(
            "there is one checkpoint, and nothing to merge it with",
            hint="name the others before the destination",
        )
    made: dict[str, EntryDraft] = {}
    planner: dict[str, Path] | None = None
    holders = {h.fqn: h.what for part in parts for h in survey(part).holders}
    conflicts: list[str] = []
    shared = 0
    for part in parts:
        for fqn, entry in part.entries.items():
            other = made.get(fqn)
            if other is None:
                made[fqn] = entry
                continue
            both = _joined(other, entry, holders.get(fqn, ""))
            if both is None:
                conflicts.append(_conflict(other, entry))
            else:
                shared += 1
                made[fqn] = both
    if conflicts:
        raise Refused(
            f"two keys would become one: {listed(conflicts, separator='; ', show=str)}",
            hint="rename or drop one of them first: dcpctl edit does so in the same pass",
        )
    if any(part.planner_data is not None for part in parts):
        planner = {}
        for part in parts:
            known = part.planner_data or {}
            planner.update({f: tuple(known.get(f, (f,))) for f in [*part.entries, *known]})
    sources = tuple({id(s): s for draft in drafts for s in draft.sources}.values())
    merged = dataclasses.replace(drafts[0], sources=sources, world_size=None, joined=True)
    changes = [
        Change("merged", label, f"{len(part.entries):,} keys")
        for label, part in zip(_labels(parts), parts, strict=True)
    ]
    notes = (f"{shared:,} keys are in several and the same in all of them",) if shared else ()
    return Outcome(merged.with_entries(made.values(), planner), tuple(changes), notes)


def parted(draft: Draft) -> list[Draft]:
    """Return the parts that a checkpoint is made of, each with its own keys; itself if it has none.

    Keys that several parts have carry the part's name in a `Checkpoint`; here they do not.
    """
    if len(draft.sources) != 1 or len(draft.sources[0].parts) < 2:
        return [draft]
    source = draft.sources[0]
    if list(draft.entries) != list(source.entries):
        return [draft]  # renamed or thinned out since it was opened: it is one by now
    found = []
    taken: set[str] = set()
    for part in source.parts:
        keys = _keys(part, taken)
        entries = [dataclasses.replace(draft.entries[key], fqn=fqn) for fqn, key in keys.items()]
        taken.update(keys.values())
        found.append(draft.with_entries(entries, part.stored.planner_data))
    return found


def _keys(part: Part, taken: set[str]) -> dict[str, str]:
    """The part's own FQNs and what the checkpoint calls them."""
    return {fqn: f"{part.name}/{fqn}" if fqn in taken else fqn for fqn in part.stored.entries}


def _joined(one: EntryDraft, other: EntryDraft, what: str) -> EntryDraft | None:
    """What two entries of one FQN are together; None if they differ."""
    if isinstance(one, TensorDraft) and isinstance(other, TensorDraft):
        return one if _same_tensors(one, other) else None
    if isinstance(one, TensorDraft) or isinstance(other, TensorDraft):
        return None
    if same(one.value, other.value):
        return one
    value = None
    if what == PARAMS:
        value = _joined_names(one.value, other.value)
    elif what == GROUPS:
        value = _joined_groups(one.value, other.value)
    return None if value is None else BytesDraft(one.fqn, NewValue(value), one.rank)


def _same_tensors(one: TensorDraft, other: TensorDraft) -> bool:
    """Compare bit for bit, in blocks."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    first, second = one.source.entry, other.source.entry
    if first is None or second is None:
        return one.source == other.source
    most = max(1, _BLOCK // first.itemsize)
    for starts, stops in boxes.split(one.shape, most):
        box = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
        if first[box].tobytes() != second[box].tobytes():
            return False
    return True


def _joined_names(one: Any, other: Any) -> list[str] | None:
    """Two lists of names as one; None if one of them names by position."""
    if not all(isinstance(names, (list, tuple)) for names in (one, other)):
        return None
    names = [*one, *other]
    return list(dict.fromkeys(names)) if all(isinstance(n, str) for n in names) else None


def _joined_groups(one: Any, other: Any) -> list[Any] | None:
    """Pickled param groups with the names of both; None if their hyperparameters differ."""
    if not all(isinstance(groups, (list, tuple)) for groups in (one, other)):
        return None
    if len(one) != len(other):
        return None
    made = []
    for a, b in zip(one, other, strict=True):
        if not isinstance(a, Mapping) or not isinstance(b, Mapping) or a.keys() != b.keys():
            return None
        if not all(same(a[key], b[key]) for key in a if key not in NAME_LISTS):
            return None
        names = {key: _joined_names(a[key], b[key]) for key in NAME_LISTS if key in a}
        if None in names.values():
            return None
        made.append(alike(a, {**a, **names}))
    return made


def _conflict(one: EntryDraft, other: EntryDraft) -> str:
    first, second = _words(one), _words(other)
    both = f"{first} in both, with other values" if first == second else f"{first} and {second}"
    return f"{quote(one.fqn)} is {both}"


def _words(entry: EntryDraft) -> str:
    if isinstance(entry, TensorDraft):
        return f"a tensor {entry.dtype}[{', '.join(map(str, entry.shape))}]"
    text = repr(entry.value)
    return printable(text if len(text) < 60 else f"{text[:57]}...")


def _labels(parts: Sequence[Draft]) -> list[str]:
    """A name for each: the directory, with the part where a directory has several."""
    found = []
    for part in parts:
        source = part.sources[0]
        within = next(
            (p.name for p in source.parts if p.stored.planner_data is part.planner_data), ""
        )
        several = len(source.parts) > 1 and within
        found.append(f"{source.path}/{within}" if several else str(source.path))
    return found
