"""An optimizer's entries taken apart, and put together again under another way to name parameters.

Three ways can be made. `index`: optimizer.state_dict() counts parameters through all groups. `fqn`:
get_state_dict names them (torch 2.2). `flat`: flatten_optimizer_state_dict (2.4) has no list of
groups; every parameter has its own copy of the hyperparameters. A fourth is only read: one
optimizer per parameter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dcpctl.errors import Refused, quote
from dcpctl.model.draft import BytesDraft, Draft, EntryDraft
from dcpctl.model.fqn import is_index
from dcpctl.model.optimizer import naming
from dcpctl.model.optimizer.catalogue import catalogue
from dcpctl.model.optimizer.source import BACKWARD, FLAT, INDEXED, PICKLED, PLAIN, RawOptimizer
from dcpctl.model.source import NewValue
from dcpctl.surgery.names.survey import NAME_LISTS, every_name

INDEX, FQN, FLATTENED = "index", "fqn", "flat"
BY_PARAMETER = "one optimizer per parameter"
Path = tuple[Any, ...]


@dataclass(slots=True)
class Group:
    """One param group.

    Attributes:
        values: key to its entry, in order, without `params`.
        params: its parameters as the optimizer names them.
    """

    values: dict[str, EntryDraft] = field(default_factory=dict)
    params: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Taken:
    """An optimizer taken apart.

    Attributes:
        root: what its FQNs begin with.
        path: object path of the root.
        style: `index`, `fqn`, `flat`, or that of one optimizer per parameter.
        state: parameter to (keys below it, entry) of its state.
        groups: its param groups, in order.
        fqns: the entries that it was made of.
    """

    root: str
    path: Path
    style: str
    state: dict[str, list[tuple[Path, EntryDraft]]] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    fqns: set[str] = field(default_factory=set)


def take_apart(draft: Draft, raw: RawOptimizer) -> Taken:
    """Take an optimizer apart; `params` lists are read.

    Raises:
        Refused: its state is in a form that has no parameters' names to change, or pickled whole.
    """
    if raw.style not in (PLAIN, FLAT, INDEXED, BACKWARD) or raw.groups_pickled:
        what = "one pickled value" if raw.groups_pickled or raw.style == PICKLED else raw.style
        raise Refused(f"the parameters of {quote(raw.root)} cannot be renamed: {what}")
    taken = Taken(raw.root, (), _style(raw))
    owners: dict[Any, Group] = {}
    known = catalogue().known_slots()
    names = dict(every_name(draft))
    order = {fqn: number for number, fqn in enumerate(draft.planner_data or ())}
    for fqn in sorted(raw.fqns, key=lambda fqn: order.get(fqn, len(order))):
        path = names.get(fqn)
        place = raw.places.get(fqn)
        entry = draft.entries[fqn]
        if place is None or place.what not in (naming.STATE, naming.GROUPS) or not place.rest:
            continue
        taken.fqns.add(fqn)
        if not taken.path:
            taken.path = _root_path(raw.root, path)
        if place.what == naming.STATE:
            parameter, below = _state_place(place, path, known)
            taken.state.setdefault(parameter, []).append((below, entry))
        else:
            owner, key = naming.split_group(place)
            _put_group(owners.setdefault(owner, Group()), owner, key, entry)
    taken.groups = list(owners.values())
    return taken


def _style(raw: RawOptimizer) -> str:
    params = [param for group in raw.groups for param in group.params]
    if raw.style in (FLAT, BACKWARD):
        return FLATTENED if raw.style == FLAT else BY_PARAMETER
    return INDEX if raw.style == INDEXED or (params and all(map(is_index, params))) else FQN


def _root_path(root: str, path: Path | None) -> Path:
    """The beginning of an object path that leads to the optimizer."""
    if path is None:
        return (root,) if root else ()
    found: list[Any] = []
    for key in path:
        if ".".join(map(str, found)) == root:
            break
        found.append(key)
    return tuple(found) if ".".join(map(str, found)) == root else ((root,) if root else ())


def _state_place(place: naming.Place, path: Path | None, known: frozenset[str]) -> tuple[str, Path]:
    if place.bounds and path is not None:
        parameter, _ = naming.split_nested(place)
        return parameter, tuple(path[len(path) - len(place.bounds) + 1 :])
    parameter, slot = naming.split_flat(place.rest, known, slot_first=False)
    return parameter, () if slot is None else tuple(place.rest[len(parameter.split(".")) :])


def _put_group(group: Group, owner: Any, key: str | None, entry: EntryDraft) -> None:
    if isinstance(owner, str) and owner not in group.params:
        group.params.append(owner)
    if isinstance(owner, str) and key in NAME_LISTS:
        return
    if key == "params" and isinstance(entry, BytesDraft):
        group.params = [str(name) for name in entry.value]
    elif key is not None:
        group.values[key] = entry


def renamed_state(taken: Taken, new: Mapping[str, str], style: str) -> Taken:
    """Name the parameters anew: `new` maps every name that is mentioned."""
    state = {new[name]: slots for name, slots in taken.state.items()}
    groups = [Group(group.values, [new[name] for name in group.params]) for group in taken.groups]
    return dataclasses.replace(taken, state=state, groups=groups, style=style)


def by_group(taken: Taken) -> Taken:
    """Join the groups of single parameters that have equal values, in the order of the first."""
    joined: dict[str, Group] = {}
    for group in taken.groups:
        values = {key: _comparable(entry) for key, entry in group.values.items()}
        same = repr(sorted(values.items()))
        if same in joined:
            joined[same].params.extend(group.params)
        else:
            joined[same] = Group(group.values, list(group.params))
    return dataclasses.replace(taken, groups=list(joined.values()))


def _comparable(entry: EntryDraft) -> str:
    value = entry.value if isinstance(entry, BytesDraft) else entry.numpy().tobytes()
    return repr(getattr(value, "array", value))


def entries_of(taken: Taken) -> Iterator[tuple[EntryDraft, Path]]:
    """Put an optimizer together: its entries with their object paths, state first."""
    flat = taken.style == FLATTENED
    for parameter, slots in taken.state.items():
        for below, entry in slots:
            keys = ("state", parameter, *below)
            path = (*taken.path, ".".join(map(str, keys))) if flat else (*taken.path, *keys)
            yield _named(entry, path)
    for index, group in enumerate(taken.groups):
        if flat:
            for parameter in group.params:
                for key, entry in group.values.items():
                    if key not in NAME_LISTS:
                        yield _named(entry, (*taken.path, f"param_groups.{parameter}.{key}"))
            continue
        base = (*taken.path, "param_groups", index)
        for key, entry in group.values.items():
            yield _named(entry, (*base, key))
        listed: list[Any] = [int(p) for p in group.params] if taken.style == INDEX else group.params
        path = (*base, "params")
        yield BytesDraft(".".join(map(str, path)), NewValue(listed)), path


def _named(entry: EntryDraft, path: Path) -> tuple[EntryDraft, Path]:
    return dataclasses.replace(entry, fqn=".".join(map(str, path))), path


def put_back(draft: Draft, taken: Taken) -> Draft:
    """Replace the optimizer's entries by new ones, at the place of the first of them.

    Raises:
        Refused: two entries would have one FQN.
    """
    new = list(entries_of(taken))
    entries: dict[str, EntryDraft] = {}
    twice: list[str] = []
    put = False
    for fqn, entry in draft.entries.items():
        wanted = [entry] if fqn not in taken.fqns else ([] if put else [item for item, _ in new])
        put = put or fqn in taken.fqns
        for item in wanted:
            if item.fqn in entries:
                twice.append(item.fqn)
            entries[item.fqn] = item
    if twice:
        raise Refused(f"two entries would have one name: {quote(twice[0])}")
    if draft.planner_data is None:
        return draft.with_entries(entries.values(), None)
    planner: dict[str, Path] = {}
    for fqn, path in draft.planner_data.items():
        if fqn not in taken.fqns:
            planner[fqn] = path
        elif not any(item.fqn in planner for item, _ in new[:1]):
            planner.update((item.fqn, where) for item, where in new)
    return draft.with_entries(entries.values(), planner)
