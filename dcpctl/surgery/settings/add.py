"""`set --add`: param groups get a key that they lack, in whatever form they are stored.

A scheduler that continues at a step asks each group for `initial_lr` ("param 'initial_lr' is not
specified in param_groups[0] when resuming an optimizer", torch/optim/lr_scheduler.py), and
`dcp.load` asks for every key of the running optimizer's groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dcpctl.errors import NothingSelected, Refused, UsageError, listed, quote
from dcpctl.model.draft import BytesDraft, Draft, EntryDraft, TensorDraft
from dcpctl.model.fqn import Path
from dcpctl.model.globs import matching
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.source import NewValue
from dcpctl.surgery.names.survey import NAME_LISTS
from dcpctl.surgery.outcome import Change
from dcpctl.surgery.set import Assignment, Text
from dcpctl.surgery.settings.literals import converted, parse
from dcpctl.surgery.upgrade.groups import Group, groups_elsewhere, groups_of, sibling, with_keys

_REFERENCE = re.compile(r"@(\w+)")


@dataclass(slots=True)
class _Made:
    """The entries as they become, one addition after the other."""

    entries: dict[str, EntryDraft]
    planner: dict[str, Path]
    behind: dict[str, list[str]] = field(default_factory=dict)

    def draft(self, draft: Draft) -> Draft:
        """The result; a new entry stands behind the group's last one."""
        ordered: list[EntryDraft] = []
        for fqn in draft.entries:
            ordered.append(self.entries[fqn])
            ordered += [self.entries[new] for new in self.behind.get(fqn, ())]
        return draft.with_entries(ordered, None if draft.planner_data is None else self.planner)


def add(draft: Draft, assignments: Sequence[Assignment]) -> tuple[Draft, list[Change], list[str]]:
    """Give param groups keys that they lack.

    Args:
        draft: the checkpoint.
        assignments: each names a key, alone for all groups of all optimizers, or behind the groups'
            place: `optimizer.param_groups.*.initial_lr`, `optimizer.param_groups.0.initial_lr`. A
            value `@lr` is what the same group has for that key.

    Returns:
        The result, what was added, and sentences on groups that have the key already.

    Raises:
        NothingSelected: there is no such group.
        Refused: the key is a list of parameters, or a group lacks the key that a value refers to.
        UsageError: a value is malformed.
    """
    made = _Made(dict(draft.entries), dict(draft.planner_data or {}))
    groups = groups_of(draft, OptimizerView(draft))
    keys = [list(group.keys) for group in groups]
    changes: list[Change] = []
    notes: list[str] = []
    for wanted in assignments:
        key = wanted.target.rpartition(".")[2]
        chosen = _chosen(draft, groups, wanted.target)
        if key in NAME_LISTS or not key.isidentifier():
            raise Refused(f"{quote(key)} is no hyperparameter that could be added")
        lacking = [number for number in chosen if key not in keys[number]]
        for number in lacking:
            value = _value(made, groups[number], key, wanted.value)
            fqn = _put(draft, made, groups[number], key, value)
            keys[number].append(key)
            changes.append(Change("added", fqn, repr(value)))
        if len(lacking) < len(chosen):
            have = f"{len(chosen) - len(lacking):,} of {len(chosen):,}"
            notes.append(f"{have} param groups have {key} already; set without --add changes it")
    return (made.draft(draft) if changes else draft), changes, notes


def _chosen(draft: Draft, groups: Sequence[Group], target: str) -> list[int]:
    """Numbers of the groups that a target means."""
    place, _, key = target.rpartition(".")
    addresses = [_address(group) for group in groups]
    if not place:
        found = list(range(len(groups)))
    else:
        # One optimizer per parameter has its groups elsewhere; they answer to the usual place too.
        usual = [f"{group.root}.param_groups.{group.label}".lstrip(".") for group in groups]
        matched = set(matching([*addresses, *usual], place))
        both = zip(addresses, usual, strict=True)
        found = [number for number, names in enumerate(both) if matched & set(names)]
    if not found:
        there = listed(dict.fromkeys(f"{address}.{key}" for address in addresses), 3)
        raise NothingSelected(
            f"no param group is at {quote(place or key)}",
            hint=f"there is {there}"
            if addresses
            else groups_elsewhere(draft) or "the checkpoint has no param groups",
        )
    return found


def _address(group: Group) -> str:
    """A group's FQN, or what it would be if the group were not in a pickled value."""
    if not group.entries:
        return ".".join([group.holder, *map(str, group.inside)])
    key, fqn = next(iter(group.entries.items()))
    return fqn[: -len(key) - 1]


def _value(made: _Made, group: Group, key: str, given: Any) -> Any:
    if isinstance(given, Text):
        reference = _REFERENCE.fullmatch(given.text.strip())
        if reference:
            return _of_group(made, group, reference[1])
        given = parse(given.text)
    elif isinstance(given, str) and (reference := _REFERENCE.fullmatch(given)):
        return _of_group(made, group, reference[1])
    return converted(None, given, key=key, subject=quote(key), change_type=True)


def _of_group(made: _Made, group: Group, key: str) -> Any:
    """What a group has for a key; a tensor of one number gives the number."""
    missing = Refused(
        f"param group {quote(_address(group))} has no {quote(key)} to take the value from",
        hint=f"it has {listed(group.keys, 20, show=str)}",
    )
    if not group.entries:
        value = _at(made.entries[group.holder].source, group.inside)
        if not isinstance(value, Mapping) or key not in value:
            raise missing
        return value[key]
    fqn = f"{_address(group)}.{key}"
    entry = made.entries.get(fqn)
    if entry is None:
        raise missing
    if not isinstance(entry, TensorDraft):
        return entry.value
    if entry.numel != 1:
        raise UsageError(f"{quote(fqn)} is a tensor of {entry.numel:,} elements, not one number")
    number: Any = entry.numpy().reshape(-1)[0]
    return number.item() if number.dtype.kind in "biuf" else float(number)


def _at(source: Any, inside: Iterable[str | int]) -> Any:
    value = source.value
    for step in inside:
        value = value[step]
    return value


def _put(draft: Draft, made: _Made, group: Group, key: str, value: Any) -> str:
    """Add a key to a group; returns the FQN that it has or would have."""
    if not group.entries:
        entry = made.entries[group.holder]
        assert isinstance(entry, BytesDraft)
        whole = with_keys(entry.value, group.inside, {key: value})
        made.entries[group.holder] = BytesDraft(group.holder, NewValue(whole), entry.rank)
        return f"{_address(group)}.{key}"
    anchor = next(reversed(group.entries.values()))
    fqn, path = sibling(draft, anchor, key, group.entries)
    made.entries[fqn] = BytesDraft(fqn, NewValue(value))
    made.planner[fqn] = path
    made.behind.setdefault(anchor, []).append(fqn)
    return fqn
