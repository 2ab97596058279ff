"""What two checkpoints say of their optimizers: kind, coverage, param groups and steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dcpctl.diff.equality import equal_values
from dcpctl.diff.subject import Subject
from dcpctl.model.fqn import is_index, strip_wrappers
from dcpctl.model.optimizer.groups import ParamGroup
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.values import Unknown


@dataclass(frozen=True, slots=True)
class GroupChange:
    """A param group that differs, or that one of the two lacks.

    Attributes:
        a: its number in A; None if A lacks it.
        b: its number in B; None if B lacks it.
        parameters: parameters of it, those of the side that has it or has more.
        changed: hyperparameter to its values in A and in B.
        removed: hyperparameters that only A's group has, with their values.
        added: hyperparameters that only B's group has.
        left: parameters that only A's group has.
        joined: parameters that only B's group has.
    """

    a: int | None
    b: int | None
    parameters: int
    changed: Mapping[str, tuple[object, object]] = field(default_factory=dict)
    removed: Mapping[str, object] = field(default_factory=dict)
    added: Mapping[str, object] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OptimizerDifference:
    """What differs between two optimizers; each pair is of A and of B.

    Attributes:
        kind: the kinds; None where it cannot be told.
        verdict: whether the state is complete.
        style: how the state is named; says nothing of what it is, so it does not count.
        slots: state slot to the number of parameters that have it, of the slots that differ.
        steps: the distinct steps, ascending, each with the number of parameters at it.
        parameters: number of trained parameters.
        groups: number of param groups.
        changes: the param groups that differ.
        unknown: what could not be read of each; nothing is concluded from it.
        kinds_told: what could not be read leaves no doubt whether the kinds differ.
        steps_told: the steps of all parameters could be read.
        groups_told: all param groups could be read; else they are not compared.
    """

    kind: tuple[str | None, str | None]
    verdict: tuple[str, str]
    style: tuple[str, str]
    slots: Mapping[str, tuple[int, int]]
    steps: tuple[Mapping[float, int], Mapping[float, int]]
    parameters: tuple[int, int]
    groups: tuple[int, int]
    changes: tuple[GroupChange, ...]
    unknown: tuple[tuple[Unknown, ...], tuple[Unknown, ...]] = ((), ())
    kinds_told: bool = True
    steps_told: bool = True
    groups_told: bool = True

    @property
    def kinds_differ(self) -> bool:
        """Whether the kinds are known to differ."""
        return self.kinds_told and self.kind[0] != self.kind[1]

    @property
    def steps_differ(self) -> bool:
        """Whether the steps are known to differ."""
        return self.steps_told and tuple(self.steps[0]) != tuple(self.steps[1])

    @property
    def changed(self) -> int:
        """How many things differ."""
        differ = (self.kinds_differ, self.verdict[0] != self.verdict[1], self.steps_differ)
        return sum(differ) + len(self.slots) + len(self.changes)


def compare_optimizers(
    a: Subject, b: Subject, names: Mapping[str, str]
) -> OptimizerDifference | None:
    """Compare what two checkpoints say of their optimizers; None where neither has one.

    Reads hyperparameters and steps.

    Args:
        a: one.
        b: the other.
        names: name of a parameter of A's optimizer to its name in B's, where that differs.
    """
    if not a.sections.optimizers and not b.sections.optimizers:
        return None
    one, other = a.view, b.view
    groups_told = one.groups_unread is None and other.groups_unread is None
    slots = {}
    for slot in dict.fromkeys([*one.slots, *other.slots]):
        had, has = (view.slots[slot].present if slot in view.slots else 0 for view in (one, other))
        if had != has:
            slots[slot] = (had, has)
    return OptimizerDifference(
        kind=(one.kind, other.kind),
        verdict=(one.verdict, other.verdict),
        style=(one.style, other.style),
        slots=slots,
        steps=(one.steps, other.steps),
        parameters=(len(one.parameters), len(other.parameters)),
        groups=(len(one.param_groups), len(other.param_groups)),
        changes=tuple(_group_changes(one, other, names)) if groups_told else (),
        unknown=(one.unknown, other.unknown),
        kinds_told=_kinds_told(one, other),
        groups_told=groups_told,
        steps_told=not one.steps_unread and not other.steps_unread,
    )


def _kinds_told(a: OptimizerView, b: OptimizerView) -> bool:
    """Whether the kinds are known of both sides, or known to have no candidate in common."""
    if a.kind_unread is None and b.kind_unread is None:
        return True
    return bool(a.candidates and b.candidates and not {*a.candidates} & {*b.candidates})


def _group_changes(
    a: OptimizerView, b: OptimizerView, names: Mapping[str, str]
) -> list[GroupChange]:
    members_a = [_members(group, names) for group in a.param_groups]
    members_b = [_members(group, {}) for group in b.param_groups]
    pairs = _paired(members_a, members_b)
    found = []
    for number_a, number_b in pairs:
        change = _compare(
            number_a, a.param_groups[number_a], members_a[number_a],
            number_b, b.param_groups[number_b], members_b[number_b],
        )  # fmt: skip
        if change is not None:
            found.append(change)
    known_a, known_b = {one for one, _ in pairs}, {other for _, other in pairs}
    for number, group in enumerate(a.param_groups):
        if number not in known_a:
            found.append(GroupChange(number, None, len(group.params), removed=group.values))
    for number, group in enumerate(b.param_groups):
        if number not in known_b:
            found.append(GroupChange(None, number, len(group.params), added=group.values))
    return found


def _members(group: ParamGroup, names: Mapping[str, str]) -> dict[str, str]:
    """The group's parameters: name without wrappers in the other optimizer, to the own name."""
    return {strip_wrappers(names.get(name, name)): name for name in group.params}


def _paired(
    a: Sequence[Mapping[str, str]], b: Sequence[Mapping[str, str]]
) -> list[tuple[int, int]]:
    """Pair groups by the parameters that they share, most first; those left by their order."""
    where: dict[str, list[int]] = {}
    for number, members in enumerate(b):
        for name in members:
            where.setdefault(name, []).append(number)
    shared: dict[tuple[int, int], int] = {}
    for number, members in enumerate(a):
        for name in members:
            for other in where.get(name, ()):
                shared[number, other] = shared.get((number, other), 0) + 1
    pairs: dict[int, int] = {}
    ranked = sorted(shared, key=lambda pair: (-shared[pair], abs(pair[0] - pair[1]), pair))
    for one, other in ranked:
        if one not in pairs and other not in pairs.values():
            pairs[one] = other
    left_a = [number for number in range(len(a)) if number not in pairs]
    left_b = [number for number in range(len(b)) if number not in pairs.values()]
    pairs.update(zip(left_a, left_b, strict=False))
    return sorted(pairs.items())


def _compare(
    number_a: int,
    a: ParamGroup,
    members_a: Mapping[str, str],
    number_b: int,
    b: ParamGroup,
    members_b: Mapping[str, str],
) -> GroupChange | None:
    """What differs between two groups; None if nothing does."""
    left: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    # Indices of one optimizer and names of the other do not tell who is who.
    known = a.unknown is None and b.unknown is None
    if known and _indexed(members_a) == _indexed(members_b):
        left = tuple(own for name, own in members_a.items() if name not in members_b)
        joined = tuple(own for name, own in members_b.items() if name not in members_a)
    change = GroupChange(
        number_a,
        number_b,
        max(len(a.params), len(b.params)),
        {
            key: (value, b.values[key])
            for key, value in a.values.items()
            if key in b.values and equal_values(value, b.values[key]) is False
        },
        {key: value for key, value in a.values.items() if key not in b.values},
        {key: value for key, value in b.values.items() if key not in a.values},
        left,
        joined,
    )
    differs = change.changed or change.removed or change.added or left or joined
    return change if differs else None


def _indexed(members: Mapping[str, str]) -> bool:
    return any(is_index(name) for name in members)
