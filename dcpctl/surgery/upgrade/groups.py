"""The param groups of a draft: where each key of each group stands, and whose group it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dcpctl.errors import DcpctlError, listed
from dcpctl.model.draft import BytesDraft, Draft
from dcpctl.model.fqn import Path
from dcpctl.model.optimizer import naming
from dcpctl.model.optimizer.kind import Kind, tell_kind
from dcpctl.model.optimizer.source import LazyValues, RawGroup, RawOptimizer
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.surgery.names.survey import GROUP, GROUPS, NAME_LISTS, STATE_DICT, Holder, survey
from dcpctl.writing.side_files import beside

Key = str | int

#: Files beside the shards that are looked into.
_READ_BYTES = 8 << 20
_DECOUPLED = "decoupled_weight_decay"


@dataclass(slots=True)
class Group:
    """One param group; in the flattened form that of one parameter.

    Attributes:
        root: the optimizer that it belongs to.
        label: what to call it in a message.
        keys: its keys without `params`, in their stored order.
        kind: which optimizer it configures.
        slots: state slots that its parameters have.
        entries: key to the FQN of its entry, `params` included; empty inside a pickled value.
        holder: FQN of the entry whose pickled value it stands in, or empty.
        inside: the keys that lead to it in that value.
    """

    root: str
    label: str
    keys: tuple[str, ...]
    kind: Kind
    slots: frozenset[str]
    entries: dict[str, str] = field(default_factory=dict)
    holder: str = ""
    inside: tuple[Key, ...] = ()


def groups_of(draft: Draft, view: OptimizerView) -> list[Group]:
    """Return every param group of a draft; values are read only where they tell the optimizer."""
    found: list[Group] = []
    slots = {(p.root, p.key): frozenset(p.slots) for p in view.parameters}
    kinds: dict[object, Kind] = {}
    pickled = any(raw.groups_pickled for raw in view.optimizers) or any(
        group.values and not isinstance(group.values, LazyValues)
        for raw in view.optimizers
        for group in raw.groups
    )
    holders = survey(draft).holders if pickled else ()
    placed = _entries(draft, view)
    for raw in view.optimizers:
        inside = [place for holder in holders for place in _inside(draft, holder, raw)]
        owners = placed.get(raw.root, {})
        # The order in which model.optimizer.collect made the groups.
        places: list[tuple[Any, dict[str, str]]] = [*((p, {}) for p in inside), *owners.items()]
        for (where, entries), group in zip(places, raw.groups, strict=False):
            held = frozenset(s for param in group.params for s in slots.get((raw.root, param), ()))
            kind = _kind(raw, group, held, kinds)
            made = Group(raw.root, "", tuple(group.values), kind, held, entries)
            if entries:
                made.label = str(where)
            else:
                made.holder, made.inside = where
                made.label = str(made.inside[-1]) if made.inside else where[0]
            found.append(made)
    return found


def _kind(
    raw: RawOptimizer, group: RawGroup, slots: frozenset[str], known: dict[object, Kind]
) -> Kind:
    """Tell one group's optimizer by its own keys: get_state_dict joins several optimizers' groups.

    The view tells it once for all groups with the same keys, whatever their order.
    """
    keys = tuple(group.values)
    same = (raw.root, keys, slots, repr(group.values.get(_DECOUPLED)))
    if same not in known:
        known[same] = tell_kind(keys, slots, group.values, raw.root)
    return known[same]


def _entries(draft: Draft, view: OptimizerView) -> dict[str, dict[Any, dict[str, str]]]:
    """Root -> owner (index or parameter) -> key -> FQN, in the order of the object paths."""
    found: dict[str, dict[Any, dict[str, str]]] = {}
    for raw in view.optimizers:
        for fqn, place in raw.places.items():
            if fqn in draft.entries and place.what == naming.GROUPS and place.rest:
                owner, key = naming.split_group(place)
                if key is not None:
                    owners = found.setdefault(raw.root, {})
                    owners.setdefault(owner, {}).setdefault(key, fqn)
    return found


def _inside(
    draft: Draft, holder: Holder, raw: RawOptimizer
) -> Iterator[tuple[str, tuple[Key, ...]]]:
    """Where the groups of one optimizer stand in a pickled value."""
    entry = draft.entries[holder.fqn]
    if not isinstance(entry, BytesDraft):
        return
    if holder.what == GROUP and holder.optimizer == raw.root:
        yield holder.fqn, ()
    elif holder.what == GROUPS and holder.optimizer == raw.root:
        for index in _dicts(entry.value):
            yield holder.fqn, (index,)
    elif holder.what == STATE_DICT and holder.optimizer == raw.root:
        at: tuple[Key, ...] = () if holder.index is None else (holder.index,)
        value: Any = entry.value if holder.index is None else entry.value[holder.index]
        if isinstance(value, Mapping):
            for index in _dicts(value.get("param_groups")):
                yield holder.fqn, (*at, "param_groups", index)


def _dicts(groups: Any) -> Iterator[int]:
    for index, group in enumerate(groups if isinstance(groups, (list, tuple)) else ()):
        if isinstance(group, Mapping):
            yield index


def with_keys(value: Any, inside: tuple[Key, ...], added: Mapping[str, Any]) -> Any:
    """Return a pickled value in which the group at `inside` has more keys, before its `params`."""
    if inside:
        made = with_keys(value[inside[0]], inside[1:], added)
        if isinstance(value, Mapping):
            copy = type(value)(value)  # type: ignore[call-arg]
            copy[inside[0]] = made  # type: ignore[index]
            return copy
        items = [made if index == inside[0] else item for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    group = type(value)()
    for key, item in value.items():
        if key in NAME_LISTS and added:
            group.update(added)
            added = {}
        group[key] = item
    group.update(added)
    return group


def sibling(draft: Draft, anchor: str, key: str, there: Mapping[str, str]) -> tuple[str, Path]:
    """FQN and object path of a key that stands beside another one.

    Args:
        draft: the checkpoint.
        anchor: the other key's FQN.
        key: the new key.
        there: key -> FQN of the same group, the anchor among them.
    """
    old = next(known for known, fqn in there.items() if fqn == anchor)
    fqn = anchor[: -len(old)] + key
    path = (draft.planner_data or {}).get(anchor)
    if path is None:
        first = next((f for f in there.values() if f in (draft.planner_data or {})), None)
        if first is None:
            return fqn, (fqn,)
        old = next(known for known, known_fqn in there.items() if known_fqn == first)
        path = (draft.planner_data or {})[first]
    last = str(path[-1])
    return fqn, (*path[:-1], last[: -len(old)] + key)


def groups_elsewhere(draft: Draft) -> str:
    """A hint on a checkpoint without param groups; empty where there is none to give.

    Megatron-core keeps them in `common.pt`, whose pickle stands uncompressed in its archive.
    """
    try:
        files = beside(draft.sources).loose if draft.sources else []
        holding = [file.name for file in files if b"param_groups" in file.read(_READ_BYTES)]
    except DcpctlError:
        return ""  # this is a hint on another error
    if not holding:
        return ""
    return f"{listed(holding)} beside the shards holds param groups; torch.load can change it"
