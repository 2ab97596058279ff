"""The model's parameters behind an optimizer's names: indices, tied names, whole modules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]

_EMBEDDING = re.compile(r"(?i).*(?:embed|wte|shared).*")
_HEAD = re.compile(
    r"(?i)(?:.*\.)?(?:(?:lm_)?head|output(?:_layer|_projection)?|embed_out|proj_out|decoder"
    r"|unembed\w*|classifier)\.weight"
)
# More orders than this in play at once: the model repeats itself too much to tell.
_MAX_STATES = 256
_MAX_GROUPS = 64
_MAX_WORK = 1_000_000
# Modules nested deeper are not told apart.
_MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class ModelParameter:
    """A tensor of the model that may be trained.

    Attributes:
        name: without root and wrappers.
        fqn: its entry.
        shape: elements per dimension.
    """

    name: str
    fqn: str
    shape: Shape


def tied_names(parameters: Sequence[ModelParameter]) -> dict[str, str]:
    """Return names that look like second names of one tensor, each with its first.

    By shape and by names: an embedding and an output head, or two embeddings. Values are not
    compared, so this is no evidence; `ties` has that.
    """
    firsts: dict[Shape, list[ModelParameter]] = {}
    tied: dict[str, str] = {}
    for parameter in parameters:
        embedding = _EMBEDDING.fullmatch(parameter.name) is not None
        if len(parameter.shape) != 2 or not (embedding or _HEAD.fullmatch(parameter.name)):
            continue
        others = firsts.setdefault(parameter.shape, [])
        if others and (embedding or _EMBEDDING.fullmatch(others[0].name)):
            tied[parameter.name] = others[0].name
        others.append(parameter)
    return tied


def name_indices(
    groups: Sequence[Sequence[str]],
    shapes: Mapping[str, Shape],
    model: Sequence[ModelParameter],
    tied: Collection[str] = (),
) -> dict[str, str]:
    """Find out which parameters the indices of an `optimizer.state_dict()` stand for.

    torch numbers parameters group by group, and people fill each group in the model's order. So
    every group is a subsequence of the model's parameters with the shapes of its state; where
    exactly one way to take them apart exists, that is it.

    Args:
        groups: indices of each param group, in order.
        shapes: index to the shape of its parameter, where the state tells it.
        model: the model's parameters in its order, buffers left out.
        tied: those of them that are second names of another.

    Returns:
        Index to name; empty when no way or several exist.
    """
    if len(groups) > _MAX_GROUPS:
        return {}
    wanted = sum(map(len, groups))
    candidates: list[Sequence[ModelParameter]] = [model]
    if tied and wanted == len(model) - len(tied):
        candidates.insert(0, [p for p in model if p.name not in tied])
    for parameters in candidates:
        found = _only_way(groups, shapes, parameters, len(parameters) - wanted)
        if found:
            return found
    return {}


def fits_in_order(
    groups: Sequence[Sequence[str]],
    shapes: Mapping[str, Shape],
    model: Sequence[ModelParameter],
) -> bool:
    """Say whether the indices of an `optimizer.state_dict()` can stand for a model's parameters.

    Args:
        groups: indices of each param group, in order.
        shapes: index to the shape of its parameter, where the state tells it.
        model: the model's parameters in its order, buffers left out.
    """
    indices = [index for group in groups for index in group]
    if len(indices) > len(model):
        return False
    if Counter(shapes[index] for index in indices if index in shapes) - Counter(
        parameter.shape for parameter in model
    ):
        return False
    # Each group is in the model's order; which parameter is in which group is not asked here.
    for group in groups:
        rest = iter(model)
        for index in group:
            shape = shapes.get(index)
            if not any(shape is None or shape == parameter.shape for parameter in rest):
                return False
    return True


def _only_way(
    groups: Sequence[Sequence[str]],
    shapes: Mapping[str, Shape],
    model: Sequence[ModelParameter],
    spare: int,
) -> dict[str, str]:
    """Walk the model once, keeping every state of the groups' cursors and its number of ways."""
    if spare < 0:
        return {}
    start = tuple(0 for _ in groups)
    ways: dict[tuple[int, ...], int] = {start: 1}
    trail: list[dict[tuple[int, ...], tuple[tuple[int, ...], int]]] = []
    work = 0
    for position, parameter in enumerate(model):
        following: dict[tuple[int, ...], int] = {}
        came: dict[tuple[int, ...], tuple[tuple[int, ...], int]] = {}
        for cursors, count in ways.items():
            steps: list[tuple[tuple[int, ...], int]] = []
            if position - sum(cursors) < spare:
                steps.append((cursors, -1))
            for group, cursor in enumerate(cursors):
                if cursor < len(groups[group]):
                    shape = shapes.get(groups[group][cursor])
                    if shape is None or shape == parameter.shape:
                        moved = (*cursors[:group], cursor + 1, *cursors[group + 1 :])
                        steps.append((moved, group))
            for state, choice in steps:
                following[state] = following.get(state, 0) + count
                came[state] = (cursors, choice)
        work += len(ways) * len(groups)
        if len(following) > _MAX_STATES or work > _MAX_WORK:
            return {}
        ways = following
        trail.append(came)
    end = tuple(len(group) for group in groups)
    if ways.get(end) != 1:
        return {}
    names: dict[str, str] = {}
    for came, parameter in zip(reversed(trail), reversed(model), strict=True):
        previous, choice = came[end]
        if choice >= 0:
            names[groups[choice][previous[choice]]] = parameter.name
        end = previous
    return names


def stateless_modules(names: Sequence[str], without: frozenset[str]) -> dict[str, str]:
    """Find the names whose whole module has no state: name to the module.

    Args:
        names: all trained parameters.
        without: those that have no state.

    Returns:
        For each of `without` that lies in a module (not the model itself) with at least two
        trained parameters, none of which has state, the largest such module.
    """
    total: dict[str, int] = {}
    empty: dict[str, int] = {}
    for name in names:
        for module in _modules(name):
            total[module] = total.get(module, 0) + 1
            empty[module] = empty.get(module, 0) + (name in without)
    found: dict[str, str] = {}
    for name in without:
        for module in _modules(name):
            if total.get(module, 0) > 1 and total[module] == empty[module]:
                found[name] = module
                break
    return found


def _modules(name: str) -> list[str]:
    """Enclosing modules, the largest first: `layers.0.wq.w` -> layers, layers.0, layers.0.wq."""
    components = name.split(".", _MAX_DEPTH)
    return [".".join(components[:depth]) for depth in range(1, len(components))]
