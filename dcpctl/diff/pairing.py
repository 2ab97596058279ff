"""Which key of A is which key of B: the same key, a renamed one, or none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dcpctl.diff.group_forms import Regrouped, regrouped
from dcpctl.diff.identity import GROUP, OTHER, STATE, Identity, identities
from dcpctl.diff.rename_rules import Explained, RenameRule, explain
from dcpctl.diff.renumbering import renumbered_names
from dcpctl.diff.subject import Subject
from dcpctl.model.fqn import strip_wrappers
from dcpctl.model.rename_rules import Renaming, Upgrading, is_writable
from dcpctl.model.renames import renamed_names
from dcpctl.model.sections import MODEL

#: From a rename of A to what each key of A would be called; None where it is refused.
TryRename = Callable[[Renaming], Mapping[str, str] | None]


@dataclass(frozen=True, slots=True)
class Pairing:
    """The keys of two checkpoints, in their metadata order.

    Attributes:
        same: keys of both.
        removed: keys of A alone.
        added: keys of B alone.
        renamed: key in A and key in B of what has another name there.
        rules: what the renames have in common.
        edits: what makes the renames, one after the other; empty where there are none, or no
            command line can say them.
        regrouped: keys of param groups of another form, which neither of the above have.
        names: what A's optimizer calls a parameter in its keys and lists, to what B's does, where
            that differs.
        parameters: name of a parameter of A's optimizer to its name in B's.
    """

    same: tuple[str, ...]
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    rules: tuple[RenameRule, ...] = ()
    edits: tuple[Renaming | Upgrading, ...] = ()
    regrouped: Regrouped | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """Keys of either that the other has not under the same name."""
        count = len(self.removed) + len(self.added) + len(self.renamed)
        if self.regrouped is not None:
            count += len(self.regrouped.keys_a) + len(self.regrouped.keys_b)
        return count

    def pairs(self) -> Iterator[tuple[str, str]]:
        """The keys that stand for the same thing: in A and in B."""
        yield from ((fqn, fqn) for fqn in self.same)
        yield from self.renamed


def pair(a: Subject, b: Subject, try_rename: TryRename | None = None) -> Pairing:
    """Tell which entries of two checkpoints belong together; looks at names and shapes.

    Args:
        a: one.
        b: the other.
        try_rename: says what a rename would make of A's keys; without it the edits are the
            likeliest.
    """
    if a.entries.keys() == b.entries.keys():
        return Pairing(tuple(a.entries))
    moved = renumbered_names(a, b)
    apart = _numbered(a, moved.keys()) | _numbered(b, set(moved.values())) if moved else set()
    same = tuple(fqn for fqn in a.entries if fqn in b.entries and fqn not in apart)
    left_a = [fqn for fqn in a.entries if fqn not in b.entries or fqn in apart]
    left_b = [fqn for fqn in b.entries if fqn not in a.entries or fqn in apart]
    if not left_a or not left_b:
        return Pairing(same, tuple(left_a), tuple(left_b))
    renamed, names = _renamed(a, b, left_a, left_b, moved)
    found = set(renamed.values())
    removed = [fqn for fqn in left_a if fqn not in renamed]
    added = [fqn for fqn in left_b if fqn not in found]
    groups = regrouped(a, b, removed, added)
    if groups is not None:
        of_groups = {*groups.keys_a, *groups.keys_b}
        removed = [fqn for fqn in removed if fqn not in of_groups]
        added = [fqn for fqn in added if fqn not in of_groups]
    pairs = tuple(renamed.items())
    explained = explain(a, b, pairs) if pairs else Explained()
    wanted = {**{fqn: fqn for fqn in same}, **renamed}
    return Pairing(
        same,
        tuple(removed),
        tuple(added),
        pairs,
        explained.rules,
        _edits(explained, groups, b, wanted, try_rename),
        groups,
        *_optimizers_names(a, b, names),
    )


def _renamed(
    a: Subject,
    b: Subject,
    left_a: Sequence[str],
    left_b: Sequence[str],
    moved: Mapping[str, str],
) -> tuple[dict[str, str], dict[str, str]]:
    """Pair keys: by what they are, then by parameters that have new names.

    Parameters that `moved` names are already known to have them.

    Returns:
        Key in A to key in B, in the order of A; parameter of A to its name in B.
    """
    of_a, of_b = identities(a), identities(b)
    pending_a = {fqn: of_a[fqn] for fqn in left_a if fqn in of_a}
    pending_b = {of_b[fqn]: fqn for fqn in left_b if fqn in of_b}
    renamed: dict[str, str] = {}

    def match(names: Mapping[str, str]) -> None:
        for fqn, one in list(pending_a.items()):
            wanted = _with_names(one, names)
            other = pending_b.get(wanted)
            # Both are tensors, or both objects.
            if other is not None and (fqn in a.tensors) == (other in b.tensors):
                renamed[fqn] = other
                del pending_a[fqn], pending_b[wanted]

    match(moved)
    unpaired_b = {fqn: one for one, fqn in pending_b.items()}
    names = renamed_names(_names(a, pending_a), _names(b, unpaired_b))
    match(names)
    return {fqn: renamed[fqn] for fqn in left_a if fqn in renamed}, {**moved, **names}


def _numbered(subject: Subject, names: Collection[str]) -> set[str]:
    """The keys of some parameters, in the model and in optimizers."""
    return {
        fqn
        for fqn, one in identities(subject).items()
        if (one[0] == MODEL and one[1] in names)
        or (one[0] in (STATE, GROUP) and len(one) > 2 and one[2] in names)
    }


def _edits(
    explained: Explained,
    groups: Regrouped | None,
    b: Subject,
    wanted: Mapping[str, str],
    try_rename: TryRename | None,
) -> tuple[Renaming | Upgrading, ...]:
    """The edits that make the renames, tried where that is possible."""
    if explained.keys and b.view.param_groups_pickled:
        return ()  # upgrade renames no parameters that are pickled in one piece
    found: list[Renaming | Upgrading] = []
    if explained.renames:
        ways = tuple(way for way in explained.renames if all(map(is_writable, way.rules)))
        if try_rename is not None:
            ways = tuple(way for way in ways if _makes(try_rename(way), explained, wanted))
        if not ways:
            return ()
        found.append(ways[0])
    if explained.keys or groups is not None:
        keys = explained.keys or (groups.keys if groups is not None else None)
        upgrade = Upgrading(keys, b.release or None)
        found.insert(0 if explained.wraps else len(found), upgrade)
    return tuple(found)


def _makes(made: Mapping[str, str] | None, explained: Explained, wanted: Mapping[str, str]) -> bool:
    """Whether all keys get their names, but for those that an upgrade is to name."""
    if made is None:
        return False
    return all(made.get(old) == new for old, new in wanted.items() if old not in explained.formed)


def _names(subject: Subject, left: Mapping[str, Identity]) -> dict[str, tuple[object, ...]]:
    """The parameters that the entries left are of, each with what tells it from others.

    That is its shape in the model; of one that the model lacks, the shapes of its state.
    """
    shapes: dict[str, tuple[object, ...]] = {}
    slots: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for fqn, one in left.items():
        tensor = subject.tensors.get(fqn)
        if one[0] == MODEL or (one[0] == OTHER and tensor is not None):
            shapes[one[1]] = (one[0], tensor.shape if tensor is not None else None)
        elif one[0] == STATE and tensor is not None:
            slots.setdefault(one[2], []).append((one[3], tensor.shape))
    return {**{name: (STATE, *sorted(found)) for name, found in slots.items()}, **shapes}


def _with_names(one: Identity, names: Mapping[str, str]) -> Identity:
    """The identity with the parameter's name in B."""
    if one[0] in (MODEL, OTHER):
        return (one[0], names.get(one[1], one[1]))
    if one[0] in (STATE, GROUP) and len(one) > 2:
        return (*one[:2], names.get(one[2], one[2]), *one[3:])
    return one


def _optimizers_names(
    a: Subject, b: Subject, names: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """What A calls parameters, to what B does: in the keys and lists of optimizers, and by name."""
    theirs = {strip_wrappers(p.name): p for p in b.view.parameters}
    taken = set(names.values())  # names that other parameters have in B
    keys: dict[str, str] = {}
    by_name: dict[str, str] = {}
    for parameter in a.view.parameters:
        name = strip_wrappers(parameter.name)
        wanted = names.get(name, name)
        other = theirs.get(wanted)
        if other is not None:
            by_name[parameter.name] = other.name
            keys.setdefault(parameter.name, other.name)
            keys[parameter.key] = other.key
        elif name in taken:
            by_name[parameter.name] = keys[parameter.name] = keys[parameter.key] = wanted
    return {name: other for name, other in keys.items() if name != other}, by_name
