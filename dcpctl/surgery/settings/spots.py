"""What `set` may be told to set: entries, members of pickled values, hyperparameters by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dcpctl.model.draft import BytesDraft, Draft, TensorDraft
from dcpctl.model.globs import matching
from dcpctl.model.optimizer import naming
from dcpctl.surgery.names.survey import GROUP, GROUPS, PARAMS, SLOTS_BY_NAME, Holder, Names

Key = str | int


@dataclass(frozen=True, slots=True)
class Spot:
    """One value that can be set.

    Attributes:
        fqn: the entry.
        path: keys that lead to it in the entry's value; empty for the value itself.
    """

    fqn: str
    path: tuple[Key, ...] = ()

    @property
    def key(self) -> str:
        """What the value is called: `lr`, `step`."""
        return str(self.path[-1]) if self.path else self.fqn.rpartition(".")[2]

    @property
    def name(self) -> str:
        """The FQN that it has, or would have if its entry were not one pickled value."""
        return ".".join([self.fqn, *map(str, self.path)])


def spots(draft: Draft, names: Names, target: str) -> list[Spot]:
    """Return what a target means: an FQN, a member of a pickled value, a glob or a bare name.

    A bare name (`lr`, `step`) is that hyperparameter of every param group, and that scalar in the
    state of every parameter.

    Returns:
        The spots in the order of the entries; none if it means nothing.
    """
    if target in draft.entries:
        return [Spot(target)]
    inside = _inside(draft, target)
    if inside is not None:
        return [inside]
    if any(char in target for char in "*?["):
        return [Spot(fqn) for fqn in matching(draft.entries, target)]
    if "." in target:
        return []
    return list(dict.fromkeys(_by_key(draft, names, target)))


def _inside(draft: Draft, target: str) -> Spot | None:
    """The member of a pickled value that a target leads to."""
    end = target.rfind(".")
    while end > 0:
        entry = draft.entries.get(target[:end])
        if isinstance(entry, BytesDraft):
            path = _walk(entry.value, target[end + 1 :])
            return None if path is None else Spot(entry.fqn, path)
        end = target.rfind(".", 0, end)
    return None


def _walk(value: Any, rest: str) -> tuple[Key, ...] | None:
    """The keys that lead to `rest` in a value; keys may contain dots, the longest wins."""
    if isinstance(value, Mapping):
        for key in sorted(value, key=lambda key: -len(str(key))):
            if rest == str(key):
                return (key,)
            if rest.startswith(f"{key}."):
                below = _walk(value[key], rest[len(str(key)) + 1 :])
                if below is not None:
                    return (key, *below)
    elif isinstance(value, (list, tuple)):
        first, _, more = rest.partition(".")
        if first.isascii() and first.isdigit() and len(first) < 10 and int(first) < len(value):
            if not more:
                return (int(first),)
            below = _walk(value[int(first)], more)
            return None if below is None else (int(first), *below)
    return None


def _by_key(draft: Draft, names: Names, key: str) -> Iterator[Spot]:
    holders = {holder.fqn: holder for holder in names.holders}
    owned = {fqn for raw in names.sections.optimizers for fqn in raw.fqns}
    for fqn, entry in draft.entries.items():
        holder = holders.get(fqn)
        if holder is not None and isinstance(entry, BytesDraft):
            yield from (Spot(fqn, path) for path in _in_value(entry.value, holder, key))
        elif fqn in owned and fqn.rpartition(".")[2] == key:
            place = names.sections.places.get(fqn)
            in_group = place is not None and place.what == naming.GROUPS
            if in_group or not isinstance(entry, TensorDraft) or entry.numel == 1:
                yield Spot(fqn)


def _in_value(value: Any, holder: Holder, key: str) -> Iterator[tuple[Key, ...]]:
    """Paths to a key in a pickled group, in groups, in state by name, in a whole state dict."""
    if holder.what == PARAMS:
        return
    if holder.what == GROUP:
        yield from _in_groups([value], (), key, listed=False)
    elif holder.what == GROUPS:
        yield from _in_groups(value, (), key)
    elif holder.what == SLOTS_BY_NAME:
        yield from _in_state(value, (), key)
    else:
        several = isinstance(value, (list, tuple))
        for index, item in enumerate(value if several else [value]):
            if isinstance(item, Mapping):
                at: tuple[Key, ...] = (index,) if several else ()
                yield from _in_groups(item.get("param_groups"), (*at, "param_groups"), key)
                yield from _in_state(item.get("state"), (*at, "state"), key)


def _in_groups(
    groups: Any, at: tuple[Key, ...], key: str, *, listed: bool = True
) -> Iterator[tuple[Key, ...]]:
    for index, group in enumerate(groups if isinstance(groups, (list, tuple)) else ()):
        if isinstance(group, Mapping) and key in group:
            yield (*at, index, key) if listed else (*at, key)


def _in_state(state: Any, at: tuple[Key, ...], key: str) -> Iterator[tuple[Key, ...]]:
    for name, slots in state.items() if isinstance(state, Mapping) else ():
        if isinstance(slots, Mapping) and key in slots:
            yield (*at, name, key)
