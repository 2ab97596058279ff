"""Step `param-group-keys`: the keys that the target's optimizer asks for, with its own defaults.

`dcp.load` asks for every key of the running optimizer's groups and fails on one that is not there
("Missing key in checkpoint state_dict"). A release's own default for a key that it introduced is
what its optimizer would do without it, so that training goes on as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dcpctl.errors import Refused, listed
from dcpctl.model.draft import BytesDraft, Draft, EntryDraft
from dcpctl.model.fqn import Path
from dcpctl.model.optimizer.catalogue import TorchOptimizer, catalogue, version_key
from dcpctl.model.source import NewValue
from dcpctl.surgery.upgrade.engine import Context, Done, step
from dcpctl.surgery.upgrade.groups import Group, groups_of, sibling, with_keys


@dataclass(frozen=True, slots=True)
class _Addition:
    """What one group gets: keys in the optimizer's order, and whose they are."""

    group: Group
    optimizer: TorchOptimizer
    keys: dict[str, object]


@step("param-group-keys", 30)
def param_group_keys(draft: Draft, context: Context) -> Done:
    """Add missing keys to every group whose optimizer is known.

    Raises:
        Refused: the groups do not tell which of several optimizers with different defaults it is,
            or contradict the one that was named.
    """
    groups = groups_of(draft, context.view(draft))
    named = _named(groups, context)
    additions: list[_Addition] = []
    torn: dict[tuple[str, ...], list[tuple[Group, str, dict[str, object]]]] = {}
    for group in groups:
        able = _candidates(group, context, named)
        if not able:
            continue
        missing = [key for key in able[0].keys_at(context.catalogued) if key not in group.keys]
        defaults = {key: {o.name: _default(o, key, context) for o in able} for key in missing}
        differ = [key for key in missing if len({repr(v) for v in defaults[key].values()}) > 1]
        if differ:
            names = tuple(optimizer.name for optimizer in able)
            torn.setdefault(names, []).append((group, differ[0], defaults[differ[0]]))
        elif missing:
            first = {key: defaults[key][able[0].name] for key in missing}
            additions.append(_Addition(group, able[0], first))
    if torn:
        raise _undecided(torn)
    return _added(draft, groups, additions, context)


def _named(groups: list[Group], context: Context) -> TorchOptimizer | None:
    """The optimizer that the user named, having seen that it can be that of some group."""
    if context.optimizer is None or not groups:
        return None
    named = catalogue().torch[context.optimizer]
    if version_key(named.first)[:2] > context.release:
        raise Refused(f"torch {context.torch} has no {named.name}, which came with {named.first}")
    if not any(_fits(group, named) for group in groups):
        how = dict.fromkeys(f"{group.kind.name}: {group.kind.how}" for group in groups)
        raise Refused(
            f"no param group can be one of {named.name}: {'; '.join(how)}",
            hint="leave out --optimizer, or name another",
        )
    return named


def _fits(group: Group, named: TorchOptimizer) -> bool:
    """Whether a group may be the named optimizer's: by its keys, its state, and what they tell.

    Keys that are exactly another optimizer's tell that it is not. Adam and AdamW have the same
    ones; the value of `decoupled_weight_decay` tells them apart, while of the order of keys, where
    nothing else tells, a user who names one knows better.
    """
    torchs = frozenset(key for optimizer in catalogue().torch.values() for key in optimizer.keys)
    own = frozenset(group.keys) & torchs
    if not own <= named.keys.keys() or not group.slots <= named.slots.keys():
        return False
    spelled = [o.name for o in catalogue().torch.values() if _spells(o, own)]
    if spelled and named.name not in spelled:
        return False
    return "decoupled_weight_decay" not in own or named.name in group.kind.candidates


def _spells(optimizer: TorchOptimizer, own: frozenset[str]) -> bool:
    return any(frozenset(order) == own for _, order in optimizer.orders)


def _candidates(
    group: Group, context: Context, named: TorchOptimizer | None
) -> list[TorchOptimizer]:
    """The optimizers of torch.optim that a group may be configuring; none if it is no torch's."""
    if named is not None and _fits(group, named):
        return [named]
    kind = group.kind
    if kind.foreign or any(name not in catalogue().torch for name in kind.candidates):
        return []
    return [o for o in kind.torch if version_key(o.first)[:2] <= context.release]


def _default(optimizer: TorchOptimizer, key: str, context: Context) -> object:
    history = optimizer.keys.get(key)
    return history.default_at(context.catalogued) if history else None


def _undecided(torn: dict[tuple[str, ...], list[tuple[Group, str, dict[str, object]]]]) -> Refused:
    clauses = []
    for names, cases in torn.items():
        labels = list(dict.fromkeys(group.label for group, _, _ in cases))
        _, key, defaults = cases[0]
        each = ", ".join(f"{value!r} for {name}" for name, value in defaults.items())
        clauses.append(
            f"param group {listed(labels, show=str)} may be {' or '.join(names)}, and "
            f"the default of {key} is {each}"
        )
    choices = list(dict.fromkeys(name for names in torn for name in names))
    last = [name for name in choices if name == "AdamW"] or choices[:1]
    return Refused("; ".join(clauses), hint=f"say which: --optimizer {last[0].lower()}")


def _added(draft: Draft, groups: list[Group], additions: list[_Addition], context: Context) -> Done:
    note = _ignored(groups, context)
    if not additions:
        return Done(draft, 0, note)
    behind: dict[str, list[BytesDraft]] = {}
    values: dict[str, BytesDraft] = {}
    paths: dict[str, Path] = {}
    for addition in additions:
        group = addition.group
        if group.holder:
            entry = values.get(group.holder) or draft.entries[group.holder]
            assert isinstance(entry, BytesDraft)
            made = with_keys(entry.value, group.inside, addition.keys)
            values[group.holder] = BytesDraft(group.holder, NewValue(made), entry.rank)
        else:
            _beside(draft, addition, behind, paths)
    entries: list[EntryDraft] = []
    for fqn, entry in draft.entries.items():
        entries.append(values.get(fqn, entry))
        entries.extend(_followers(fqn, behind))
    planner: dict[str, Path] = {}
    for fqn, path in (draft.planner_data or {}).items():
        planner[fqn] = path
        planner.update((new.fqn, paths[new.fqn]) for new in _followers(fqn, behind))
    made_draft = draft.with_entries(entries, None if draft.planner_data is None else planner)
    return Done(made_draft, sum(len(a.keys) for a in additions), _told(additions, note))


def _beside(
    draft: Draft,
    addition: _Addition,
    behind: dict[str, list[BytesDraft]],
    paths: dict[str, Path],
) -> None:
    """Put new entries behind the key that comes before theirs in the optimizer's order."""
    there = {key: fqn for key, fqn in addition.group.entries.items() if key in addition.group.keys}
    order = [
        key for key in addition.optimizer.orders[-1][1] if key in there or key in addition.keys
    ]
    last = next(reversed(there.values()))
    for key, value in addition.keys.items():
        before = [k for k in order[: order.index(key)] if k in there] if key in order else []
        anchor = there[before[-1]] if before else last
        fqn, path = sibling(draft, anchor, key, there)
        behind.setdefault(anchor, []).append(BytesDraft(fqn, NewValue(value)))
        paths[fqn] = path
        there[key] = fqn
        if anchor == last:
            last = fqn


def _followers(fqn: str, behind: Mapping[str, list[BytesDraft]]) -> Iterator[BytesDraft]:
    """The new entries that come behind an entry, and those behind them."""
    for follower in behind.get(fqn, ()):
        yield follower
        yield from _followers(follower.fqn, behind)


def _told(additions: list[_Addition], note: str) -> str:
    """`decoupled_weight_decay = True (AdamW, 2 groups)` for each key."""
    counts: dict[tuple[str, str, str], int] = {}
    for addition in additions:
        for key, value in addition.keys.items():
            what = (key, repr(value), addition.optimizer.name)
            counts[what] = counts.get(what, 0) + 1
    clauses = [
        f"{key} = {value} ({name}, {count:,} group{'' if count == 1 else 's'})"
        for (key, value, name), count in counts.items()
    ]
    return "; ".join([*clauses, *([note] if note else [])])


def _ignored(groups: list[Group], context: Context) -> str:
    """What becomes of keys that an older target does not know."""
    unknown: dict[str, None] = {}
    for group in groups:
        for optimizer in group.kind.torch[:1]:
            theirs = optimizer.keys_at(context.catalogued)
            newer = (key for key in group.keys if key in optimizer.keys and key not in theirs)
            unknown.update(dict.fromkeys(newer))
    if not unknown:
        return ""
    listed = ", ".join(unknown)
    return f"torch {context.torch} does not know {listed} and does not ask for it; left as it is"
