"""From a checkpoint's entries to its optimizers, in one pass over names; values stay unread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from dcpctl.model.fqn import Path, is_index
from dcpctl.model.optimizer import naming
from dcpctl.model.optimizer.catalogue import catalogue
from dcpctl.model.optimizer.naming import Place
from dcpctl.model.optimizer.places import places_of
from dcpctl.model.optimizer.source import (
    BACKWARD,
    BUCKETS,
    FLAT,
    INDEXED,
    LOOSE,
    PICKLED,
    SLOT_FIRST,
    UNKNOWN,
    CheckpointLike,
    LazyValues,
    RawGroup,
    RawOptimizer,
    StateEntry,
    entry_of,
    entry_of_value,
    read,
)
from dcpctl.model.values import Unknown

Placed = tuple[str, Place]

NAME_LISTS = ("params", "param_names")
# A whole optimizer in one entry lies near the top, and is not large: it has no tensors.
_MAX_WHOLE = 3
_MAX_WHOLE_BYTES = 4 << 20


def collect(checkpoint: CheckpointLike) -> tuple[RawOptimizer, ...]:
    """Return the optimizers of a checkpoint, in the order of their first entries.

    Names that the planner data have and no entry holds are followed too: they say what was lost.
    """
    entries = checkpoint.entries
    tensors = {fqn for fqn, entry in entries.items() if hasattr(entry, "shape")}
    found, by_parameter = places_of(_names(checkpoint), tensors)
    placed: dict[str, list[Placed]] = {}
    for fqn, place in found.items():
        placed.setdefault(place.root, []).append((fqn, place))
    optimizers: list[RawOptimizer] = []
    for root, places in placed.items():
        optimizers.extend(_optimizers_under(root, places, entries, root in by_parameter))
    if not any(raw.groups and not raw.groups_pickled for raw in optimizers):
        optimizers.extend(_whole(checkpoint, found))
    return tuple(optimizers)


def _whole(checkpoint: CheckpointLike, found: Mapping[str, Place]) -> Iterator[RawOptimizer]:
    """Optimizers in one bytes entry that are not called like one: their values tell.

    Only releases before 2.4 keep a dict whole, so nothing is read where param groups are opened.
    """
    planner = checkpoint.planner_data or {}
    for fqn, entry in checkpoint.entries.items():
        deep = len(planner.get(fqn, ())) > _MAX_WHOLE
        small = (getattr(entry, "length", None) or 0) <= _MAX_WHOLE_BYTES
        if fqn in found or hasattr(entry, "shape") or deep or not small:
            continue
        if not any(map(naming.is_job_name, fqn.split("."))):
            yield from _pickled(fqn, entry, sure=False)


def _names(checkpoint: CheckpointLike) -> Iterator[tuple[str, Path | None]]:
    """Every FQN with its object path; the planner data's order is that of the state dict."""
    planner = checkpoint.planner_data or {}
    yield from planner.items()
    for fqn in checkpoint.entries:
        if fqn not in planner:
            yield fqn, None


def _optimizers_under(
    root: str, places: list[Placed], entries: Mapping[str, Any], by_parameter: bool
) -> Iterator[RawOptimizer]:
    raw = RawOptimizer(root, places=dict(places))
    states = [item for item in places if item[1].what == naming.STATE]
    groups = [item for item in places if item[1].what == naming.GROUPS]
    if root == "" and not _is_bare_optimizer(states, groups):
        return
    _read_states(raw, states, entries)
    _read_groups(raw, groups, entries)
    others = [item for item in places if item[1].what == naming.OTHER]
    if not raw.state and not raw.groups:
        _read_loose(raw, others, entries)
    if by_parameter:
        raw.style = BACKWARD
    raw.fqns = [fqn for fqn, _ in places if fqn in entries]
    if _is_optimizer(raw):
        yield raw
    for fqn, place in places:
        if place.what == naming.WHOLE and fqn in entries:
            yield from _pickled(fqn, entries[fqn])


def _is_optimizer(raw: RawOptimizer) -> bool:
    """Whether anything of an optimizer was found, be it that it could not be read."""
    named = raw.state or raw.absent or raw.groups or raw.groups_absent
    unread = raw.state_unknown or raw.groups_unknown is not None
    return bool(named or unread) or raw.style == UNKNOWN


def _is_bare_optimizer(states: list[Placed], groups: list[Placed]) -> bool:
    """Whether names that begin with `state` and have no root are a bare optimizer.state_dict()."""
    known = catalogue().known_slots()
    return bool(groups) or any(place.rest and place.rest[-1] in known for _, place in states)


def _read_states(raw: RawOptimizer, places: list[Placed], entries: Mapping[str, Any]) -> None:
    known = catalogue().known_slots()
    flat = [place.rest for _, place in places if not place.bounds and place.rest]
    slot_first = naming.looks_slot_first(flat, known)
    for fqn, place in places:
        if not place.rest:
            if fqn in entries and not hasattr(entries[fqn], "shape"):
                state = read(entry_of(fqn, entries[fqn]), raw.unknown)
                _add_state_dict(raw, fqn, state)
            continue
        if place.bounds:
            parameter, slot = naming.split_nested(place)
        else:
            parameter, slot = naming.split_flat(place.rest, known, slot_first=slot_first)
        if fqn not in entries:
            raw.absent.setdefault(parameter, [])
            if slot is not None and slot not in raw.absent[parameter]:
                raw.absent[parameter].append(slot)
        elif slot is None:
            slots = read(entry_of(fqn, entries[fqn]), raw.unknown)
            _add_slots(raw, fqn, parameter, slots)
        else:
            _add(raw, parameter, slot, entry_of(fqn, entries[fqn]))
    if slot_first:
        raw.style = SLOT_FIRST
    elif raw.state and all(is_index(parameter) for parameter in raw.state):
        raw.style = INDEXED
    elif flat:
        raw.style = FLAT


def _add(raw: RawOptimizer, parameter: str, slot: str, entry: StateEntry) -> None:
    slots = raw.state.setdefault(parameter, {})
    first = slots.get(slot)
    if first is not None:
        entry = replace(first, parts=first.parts + 1, gap=first.gap or entry.gap)
    slots[slot] = entry


def _add_slots(raw: RawOptimizer, fqn: str, parameter: str, slots: object) -> None:
    """A parameter whose whole state is one pickled dict: it held no tensor (2.0 to 2.3)."""
    if isinstance(slots, Unknown):
        raw.state_unknown[parameter] = slots
    elif isinstance(slots, Mapping):
        for slot, value in slots.items():
            _add(raw, parameter, str(slot), entry_of_value(fqn, value))


def _add_state_dict(raw: RawOptimizer, fqn: str, state: object) -> None:
    if isinstance(state, Unknown):
        raw.state_unknown[""] = state
    elif isinstance(state, Mapping):
        for parameter, slots in state.items():
            _add_slots(raw, fqn, str(parameter), slots)


def _read_groups(raw: RawOptimizer, places: list[Placed], entries: Mapping[str, Any]) -> None:
    owners: dict[int | str, dict[str, StateEntry]] = {}
    absent: dict[int | str, None] = {}
    for fqn, place in places:
        if not place.rest:
            if fqn in entries:
                raw.groups_pickled = True
                _add_group_dicts(raw, read(entry_of(fqn, entries[fqn]), raw.unknown))
            continue
        owner, key = naming.split_group(place)
        if fqn not in entries:
            absent[owner] = None
        elif key is None:
            whole = read(entry_of(fqn, entries[fqn]), raw.unknown)
            _add_group_dicts(raw, [whole] if isinstance(whole, Mapping) else whole, owner)
        else:
            owners.setdefault(owner, {}).setdefault(key, entry_of(fqn, entries[fqn]))
    for owner, values in owners.items():
        if isinstance(owner, str):
            raw.style = FLAT
            # The list of a parameter's own optimizer has that parameter alone.
            values = {key: entry for key, entry in values.items() if key not in NAME_LISTS}
            raw.groups.append(RawGroup(LazyValues(values, raw.unknown), (owner,)))
        else:
            raw.groups.append(_indexed_group(raw, values))
    raw.groups_absent = [str(owner) for owner in absent]


def _indexed_group(raw: RawOptimizer, values: dict[str, StateEntry]) -> RawGroup:
    params, names = (
        read(values.pop(key), raw.unknown) if key in values else () for key in NAME_LISTS
    )
    unknown = params if isinstance(params, Unknown) else None
    return RawGroup(LazyValues(values, raw.unknown), _strings(params), _strings(names), unknown)


def _add_group_dicts(raw: RawOptimizer, groups: object, owner: object = None) -> None:
    """Add pickled groups; `owner` is the parameter of which a group is, where that is known."""
    if isinstance(groups, Unknown):
        raw.groups_unknown = groups
    for group in groups if isinstance(groups, (list, tuple)) else ():
        if isinstance(group, Unknown):
            raw.groups_unknown = group
        elif isinstance(group, Mapping):
            values = {
                str(key): entry_of_value("", value).value()
                for key, value in group.items()
                if key not in NAME_LISTS
            }
            params, names = group.get("params", ()), group.get("param_names", ())
            if isinstance(owner, str):
                params, names = (owner,), ()
            raw.groups.append(RawGroup(values, _strings(params), _strings(names)))


def _strings(items: object) -> tuple[str, ...]:
    return tuple(str(item) for item in items) if isinstance(items, (list, tuple)) else ()


def _read_loose(raw: RawOptimizer, places: list[Placed], entries: Mapping[str, Any]) -> None:
    """Names without `state` right after the root: Megatron's gradient buckets, and others' own."""
    known = catalogue().known_slots()
    held = [(fqn, place.rest) for fqn, place in places if fqn in entries]
    slot_first = naming.looks_slot_first([rest for _, rest in held], known)
    for fqn, rest in held:
        if rest[-1] in known or (slot_first and rest[0] in known):
            parameter, slot = naming.split_flat(rest, known, slot_first=slot_first)
            if slot is not None:
                _add(raw, parameter, slot, entry_of(fqn, entries[fqn]))
    if any(rest[0] == "distributed" for _, rest in held):
        raw.style = BUCKETS
    elif raw.state:
        raw.style = SLOT_FIRST if slot_first else LOOSE
    elif any(hasattr(entries[fqn], "shape") for fqn, _ in held):
        raw.style = UNKNOWN


def _pickled(fqn: str, entry: Any, *, sure: bool = True) -> Iterator[RawOptimizer]:
    """The whole state dict of an optimizer, or a list of them, in one bytes entry.

    torch 1.13 flattens nothing; 2.0 to 2.3 leave a dict without any tensor as it is, which is what
    SGD without momentum has. Without `sure` it is one only if it has both parts of one.
    """
    if hasattr(entry, "shape"):
        return
    unknown: list[Unknown] = []
    value: Any = read(entry_of(fqn, entry), unknown)
    for gone in unknown if sure else ():
        yield RawOptimizer(
            fqn,
            PICKLED,
            fqns=[fqn],
            state_unknown={"": gone},
            groups_unknown=gone,
            unknown=unknown,
        )
    several = isinstance(value, (list, tuple))
    for index, item in enumerate(value if several else [value]):
        if not isinstance(item, Mapping):
            continue
        parts = {naming.STATE, naming.GROUPS} & item.keys()
        if not parts or (not sure and len(parts) < 2):
            continue
        raw = RawOptimizer(f"{fqn}.{index}" if several else fqn, PICKLED, fqns=[fqn])
        raw.groups_pickled = True
        _add_state_dict(raw, fqn, item.get("state"))
        _add_group_dicts(raw, item.get("param_groups"))
        yield raw
