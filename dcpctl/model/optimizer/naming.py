"""Where an optimizer's entries are and what their names say: root, parameter, slot.

Sources of the forms: torch/distributed/checkpoint/_nested_dict.py (how state dicts are
flattened), torch/distributed/checkpoint/state_dict.py (`flatten_optimizer_state_dict`, 2.4 and
later), megatron/core/optimizer/optimizer.py and distrib_optimizer.py (`optimizer.state.<slot>.
<name>`, `optimizer.distributed.dp_group_idx_N…`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from dcpctl.model.fqn import Path, is_index

STATE, GROUPS = "state", "param_groups"
WHOLE, OTHER = "whole", "other"

_OPTIMIZER = re.compile(r"(?i)(?:.*optim.*|opts?(?:_\w+)?|osd|adamw?|sgd)")
_SCHEDULER = re.compile(r"(?i).*(?:sched|lambdalr).*")
# What wraps a parameter's slots in one more mapping (bitsandbytes).
_WRAPPER = re.compile(r"__\w+__")
_JOB = re.compile(r"(?i).*(?:data|sampler|rng|random|_extra_state).*")
# Roots are shallow: `app.optim`, `chained_0.optimizer`, `optimizers.0`.
_MAX_ROOT = 3
# `optimizers.0.state`, `optimizers.generator.state`; further on it is a module's name.
_MAX_MARKER = 2


@dataclass(frozen=True, slots=True)
class Place:
    """What an FQN says of itself.

    Attributes:
        root: the optimizer that it belongs to.
        what: STATE, GROUPS, WHOLE (the root itself) or OTHER (elsewhere under the root).
        rest: components after `state` or `param_groups` (after the root for OTHER).
        bounds: indices into `rest` where a key of the state dict begins; empty when the keys
            were joined with dots before the save, or nothing says.
        begin: component of the FQN at which `rest` begins.
    """

    root: str
    what: str
    rest: tuple[str, ...] = ()
    bounds: tuple[int, ...] = ()
    begin: int = 0


@lru_cache(maxsize=4096)
def is_scheduler_name(component: str) -> bool:
    """Say whether a component names a learning-rate scheduler."""
    return _SCHEDULER.fullmatch(component) is not None


@lru_cache(maxsize=4096)
def is_job_name(component: str) -> bool:
    """Say whether a component names what is no optimizer's: a scheduler, data, random numbers."""
    return is_scheduler_name(component) or _JOB.fullmatch(component) is not None


@lru_cache(maxsize=4096)
def is_optimizer_name(component: str) -> bool:
    """Say whether a component names an optimizer (and not its scheduler)."""
    return _OPTIMIZER.fullmatch(component) is not None and not is_scheduler_name(component)


def tokens_of(fqn: str, path: Path | None) -> tuple[list[str], list[int]]:
    """Return the components of a name, and where among them each key of its object path begins."""
    tokens: list[str] = []
    starts: list[int] = []
    for component in path or (fqn,):
        starts.append(len(tokens))
        tokens.extend(str(component).split("."))
    return tokens, starts if path is not None else []


def locate(fqn: str, path: Path | None) -> Place | None:
    """Return where in an optimizer a name belongs by itself; None when it is no optimizer's.

    `places.places_of` also sees what stands beside the name, and so knows optimizers that are not
    called like one.

    Args:
        fqn: flattened key.
        path: its object path from the planner data, or None when there is none.

    Returns:
        The place. An FQN that begins with `state` or `param_groups` has the empty root.
    """
    tokens, starts = tokens_of(fqn, path)
    rooted = next((i for i, t in enumerate(tokens[:_MAX_ROOT]) if is_optimizer_name(t)), None)
    if rooted is None:
        return place_at("", tokens, starts, 0) if tokens[0] in (STATE, GROUPS) else None
    if any(is_scheduler_name(token) for token in tokens[:rooted]):
        return None
    for marker in range(rooted + 1, min(len(tokens), rooted + 1 + _MAX_MARKER)):
        if tokens[marker] in (STATE, GROUPS):
            return place_at(".".join(tokens[:marker]), tokens, starts, marker)
    root = ".".join(tokens[: rooted + 1])
    if len(tokens) == rooted + 1:
        return Place(root, WHOLE)
    # A module may have such a name too (`model.optim_head.weight`), so only a first component.
    if rooted:
        return None
    return Place(root, OTHER, tuple(tokens[rooted + 1 :]), begin=rooted + 1)


def place_at(root: str, tokens: list[str], starts: list[int], marker: int) -> Place:
    """Return the place of a name whose component number `marker` is `state` or `param_groups`."""
    first = marker + 1
    bounds = tuple(start - first for start in starts if start >= first)
    # A key that goes on after `state` (`state.<fqn>.<slot>` is one key) has no bound at 0.
    if bounds and bounds[0] != 0:
        bounds = ()
    return Place(root, tokens[marker], tuple(tokens[first:]), bounds, first)


def split_nested(place: Place) -> tuple[str, str | None]:
    """Return (parameter, slot) of a state entry whose keys are known; slot None: all slots."""
    if len(place.bounds) < 2:
        return ".".join(place.rest), None
    second = place.bounds[1]
    third = place.bounds[2] if len(place.bounds) > 2 else len(place.rest)
    slot = ".".join(place.rest[second:third])
    if _WRAPPER.fullmatch(slot) and third < len(place.rest):
        slot = ".".join(place.rest[third:])
    parameter = ".".join(place.rest[:second])
    # TorchRec names a slot after its table: `t1.momentum1` of `embedding_bags.t1.weight`.
    table, _, last = slot.rpartition(".")
    if table and f".{parameter}".endswith((f".{table}", f".{table}.weight")):
        slot = last
    return parameter, slot


def split_flat(
    rest: tuple[str, ...], known: frozenset[str], *, slot_first: bool
) -> tuple[str, str | None]:
    """Return (parameter, slot) of a state entry whose keys were joined with dots.

    Args:
        rest: components after `state`.
        known: slot names known of any optimizer.
        slot_first: Megatron's order.
    """
    if len(rest) == 1:
        return rest[0], None
    rest = (rest[0], *(part for part in rest[1:-1] if not _WRAPPER.fullmatch(part)), rest[-1])
    if slot_first:
        return ".".join(rest[1:]), rest[0]
    if rest[-1] in known:
        return ".".join(_without_table(rest[:-1])), rest[-1]
    if is_index(rest[0]):
        return rest[0], rest[1]
    # The items of a list that held tensors: `<name>.GG.0`.
    if is_index(rest[-1]) and len(rest) > 2:
        return ".".join(rest[:-2]), rest[-2]
    return ".".join(rest[:-1]), rest[-1]


def _without_table(names: tuple[str, ...]) -> tuple[str, ...]:
    """A parameter's name without the table's that TorchRec puts before the slot."""
    if len(names) > 3 and names[-2:] == names[-4:-2]:
        return names[:-2]
    if len(names) > 2 and names[-1] == names[-3] and names[-2] == "weight":
        return names[:-1]
    return names


def looks_slot_first(rests: list[tuple[str, ...]], known: frozenset[str]) -> bool:
    """Say whether the slot stands before the parameter's name in most of these entries."""
    long = [rest for rest in rests if len(rest) > 1]
    first = sum(rest[0] in known for rest in long)
    last = sum(rest[-1] in known for rest in long)
    return first > last and 2 * first > len(long)


def split_group(place: Place) -> tuple[int | str, str | None]:
    """Return (index, key) of a param group's entry, or (parameter, key) of a flattened one.

    The key is None where the entry holds the whole group.
    """
    rest = place.rest
    if place.bounds:
        second = place.bounds[1] if len(place.bounds) > 1 else len(rest)
        owner, key = ".".join(rest[:second]), ".".join(rest[second:]) or None
        return (int(owner), key) if is_index(owner) else (owner, key)
    if is_index(rest[0]) and len(rest) <= 2:
        return int(rest[0]), rest[1] if len(rest) == 2 else None
    return ".".join(rest[:-1]), rest[-1]
