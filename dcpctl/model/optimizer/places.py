"""Where every optimizer of a checkpoint is, told by what it holds: `state` and `param_groups`.

An optimizer may lie anywhere and be called anything (`optG`, `critic.solver`, `trainers.0.o`): what
has children called `state` and `param_groups` is one. Names decide only where structure cannot:
for what lies under an optimizer and is neither.

One optimizer per parameter (an optimizer step inside the backward pass) is a dict of optimizers by
the parameter's name; torchtune/training/memory.py, `OptimizerInBackwardWrapper.state_dict`:
`optimizer.<parameter>.state.0.<slot>`, `optimizer.<parameter>.param_groups.0.<key>`. It is read as
one optimizer that names its parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dcpctl.model.fqn import Path, is_index, strip_wrappers
from dcpctl.model.optimizer.catalogue import catalogue
from dcpctl.model.optimizer.naming import (
    GROUPS,
    OTHER,
    STATE,
    Place,
    is_scheduler_name,
    locate,
    place_at,
    tokens_of,
)

# An optimizer that lies deeper than this is a name inside a model.
_MAX_MARKER = 12
# A parameter's name has this many components at most where no object path says where it begins.
_MAX_NAME = 10


@dataclass(frozen=True, slots=True)
class _Name:
    """One name, taken apart.

    Attributes:
        fqn: the name.
        path: its object path, or None.
        tokens: components between dots.
        starts: where among them each key of the object path begins; empty without one.
        markers: those of them that may be an optimizer's `state` or `param_groups`.
    """

    fqn: str
    path: Path | None
    tokens: list[str]
    starts: list[int]
    markers: tuple[int, ...]

    def root(self, marker: int) -> str:
        """What stands before a marker."""
        return ".".join(self.tokens[:marker])


@dataclass(slots=True)
class _Root:
    """What was seen under one root that may be an optimizer's.

    Attributes:
        groups: whether it has `param_groups`.
        state: whether some of its state is in a slot that only optimizers have.
        labelled: whether it is called like an optimizer.
        keys: what its state is keyed by; no more than two.
        split: where its last key begins, if object paths say.
    """

    groups: bool = False
    state: bool = False
    labelled: bool = False
    keys: set[str] = field(default_factory=set)
    split: int | None = None


def places_of(
    names: Iterable[tuple[str, Path | None]], tensors: Collection[str]
) -> tuple[dict[str, Place], frozenset[str]]:
    """Locate every name that belongs to an optimizer.

    Args:
        names: FQNs with their object paths; None where there is none.
        tensors: the FQNs of tensor entries.

    Returns:
        FQN to place, and the roots that hold one optimizer per parameter.
    """
    read = [_name(fqn, path) for fqn, path in names]
    roots = _roots(read)
    parents = _parents(read, roots, tensors)
    found: dict[str, Place] = {}
    for name in read:
        place = _place(name, roots, parents, name.fqn in tensors)
        if place is not None:
            found[name.fqn] = place
    return found, frozenset(parents.values())


def _name(fqn: str, path: Path | None) -> _Name:
    tokens, starts = tokens_of(fqn, path)
    found = [i for i, token in enumerate(tokens[:_MAX_MARKER]) if token in (STATE, GROUPS)]
    # Keys may have been joined with dots before the save; where they were not, they decide.
    markers = tuple(marker for marker in found if marker in starts) or tuple(found)
    return _Name(fqn, path, tokens, starts, markers)


def _roots(names: Sequence[_Name]) -> dict[str, _Root]:
    """Everything that holds `param_groups`, or state as optimizers keep it, or is called so."""
    seen: dict[str, _Root] = {}
    known = catalogue().known_slots()
    for name in names:
        for marker in name.markers:
            root = name.root(marker)
            if root not in seen:
                seen[root] = _Root(labelled=_is_labelled(name.tokens[:marker]))
            found = seen[root]
            rest = name.tokens[marker + 1 :]
            if name.tokens[marker] == GROUPS:
                found.groups = True
            elif rest:
                own = root == "" or any("_" in slot for slot in (rest[0], rest[-1]))
                found.state |= own and len(rest) > 1 and bool({rest[0], rest[-1]} & known)
                if len(found.keys) < 2:
                    found.keys.add(rest[0])
            if marker in name.starts:
                before = [start for start in name.starts if start < marker]
                found.split = before[-1] if before else None
    return {
        root: found
        for root, found in seen.items()
        if (found.groups or found.state or found.labelled)
        and not any(map(is_scheduler_name, root.split(".")))
    }


def _is_labelled(tokens: Sequence[str]) -> bool:
    """Whether a root is called like an optimizer, as `naming.locate` sees it."""
    if not tokens:
        return False
    place = locate(".".join((*tokens, STATE)), None)
    return place is not None and place.what == STATE and place.root == ".".join(tokens)


def _parents(
    names: Sequence[_Name], roots: Mapping[str, _Root], tensors: Collection[str]
) -> dict[str, str]:
    """Root of one parameter's optimizer to the root of the dict that has one per parameter."""
    single = {root: found for root, found in roots.items() if root and len(found.keys) < 2}
    if not single:
        return {}
    parameters = _parameter_names(names, roots, tensors)
    found: dict[str, str] = {}
    for root, seen in single.items():
        tokens = root.split(".")
        starts = range(len(tokens)) if seen.split is None else (seen.split,)
        for start in starts:
            key = ".".join(tokens[start:])
            sure = (seen.split is not None or "." in key) and not is_index(key)
            if seen.keys <= {"0"} and sure and strip_wrappers(key) in parameters:
                found[root] = ".".join(tokens[:start])
                break
    return found


def _parameter_names(
    names: Sequence[_Name], roots: Mapping[str, _Root], tensors: Collection[str]
) -> set[str]:
    """What the tensors outside optimizers may be called within their model.

    A part that holds nothing but an optimizer has no such tensors; its own dotted keys with
    nothing but state number 0 below them are the parameters then.
    """
    found: set[str] = set()
    for name in names:
        if name.fqn not in tensors or any(name.root(m) in roots for m in name.markers):
            continue
        joined = len(name.starts) < 2
        starts = range(min(len(name.tokens), _MAX_NAME)) if joined else name.starts
        found.update(strip_wrappers(".".join(name.tokens[start:])) for start in starts)
    if found:
        return found
    own = [
        ".".join(root.split(".")[seen.split :])
        for root, seen in roots.items()
        if seen.split is not None and seen.keys == {"0"}
    ]
    return {strip_wrappers(key) for key in own if "." in key} if len(own) > 1 else set()


def _place(
    name: _Name, roots: Mapping[str, _Root], parents: Mapping[str, str], is_tensor: bool
) -> Place | None:
    for marker in name.markers:
        root = name.root(marker)
        if root in roots:
            place = place_at(root, name.tokens, name.starts, marker)
            parent = parents.get(root)
            return place if parent is None else _in_parameters(place, name, parent, marker)
    named = locate(name.fqn, name.path)
    if named is not None and named.what not in (STATE, GROUPS):
        return named
    # No marker lies deeper, and so no root.
    for depth in range(min(len(name.tokens) - 1, _MAX_MARKER), 0, -1):
        if not is_tensor and (root := name.root(depth)) in roots:
            root = parents.get(root, root)
            begin = len(root.split(".")) if root else 0
            return Place(root, OTHER, tuple(name.tokens[begin:]), begin=begin)
    return None


def _in_parameters(place: Place, name: _Name, parent: str, marker: int) -> Place:
    """The place of a name in the optimizer of one parameter, as one of many parameters."""
    begin = len(parent.split(".")) if parent else 0
    own = tuple(name.tokens[begin:marker])
    # The index of the only state, or of the only group.
    second = place.bounds[1] if len(place.bounds) > 1 else 1
    below = place.rest[second:]
    bounds = (0, *(len(own) + start - second for start in place.bounds[1:]))
    if not place.bounds and below:
        bounds = (0, len(own))
    return Place(parent, place.what, own + below, bounds, begin)
