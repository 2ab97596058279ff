"""Param-group keys that only a newer release has, filled instead of read.

The rules are those of `dcpctl upgrade`: what a release's optimizer does by default with a key that
it introduced is what the optimizer did before it had the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dcpctl.errors import printable
from dcpctl.model.fqn import Path
from dcpctl.model.optimizer import naming
from dcpctl.model.optimizer.collect import collect
from dcpctl.model.optimizer.groups import MissingGroupKey, ParamGroup, missing_group_keys
from dcpctl.model.optimizer.kind import Kind, tell_kind
from dcpctl.model.optimizer.places import places_of
from dcpctl.model.optimizer.source import CheckpointLike


@dataclass(slots=True)
class Filling:
    """What becomes of keys that a checkpoint lacks.

    Attributes:
        values: FQN to the value that it gets.
        doubts: FQN to why it gets none, a sentence, though the running release introduced the key.
    """

    values: dict[str, object] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)


def fill(
    missing: Iterable[str],
    running: Mapping[str, object],
    paths: Mapping[str, Path],
    checkpoint: CheckpointLike,
    release: str,
) -> Filling:
    """Find values for the missing keys that a release after the checkpoint's introduced.

    Args:
        missing: keys that are asked for and not in the checkpoint.
        running: FQN to the value that the running optimizer has there.
        paths: object paths of the missing keys.
        checkpoint: the names of what is stored; no value is read.
        release: the running torch, `2.13.0`.

    Returns:
        The values, and doubts. A key that no release introduced is in neither.
    """
    found = Filling()
    groups: dict[tuple[str, str], list[str]] = {}
    slots: dict[str, frozenset[str]] = {}
    places = _places(checkpoint, {fqn: paths.get(fqn) for fqn in missing})
    for fqn in missing:
        place = _group_entry(places.get(fqn))
        if place is None:
            continue
        root, owner, key = place
        if not groups:
            groups, slots = _groups(checkpoint, places), _slots(checkpoint)
        keys = groups.get((root, owner), [])
        kind = tell_kind(keys, slots.get(root, frozenset()), {}, root)
        stored = ParamGroup(root, dict.fromkeys(keys), (), kind)
        rules = missing_group_keys([stored], release) if keys else []
        rule = next((rule for rule in rules if rule.key == key), None)
        if rule is None:
            continue
        value = running.get(fqn)
        doubt = _doubt(rule, value, kind)
        if doubt:
            found.doubts[fqn] = doubt
        else:
            found.values[fqn] = value
    return found


def _doubt(rule: MissingGroupKey, value: object, kind: Kind) -> str:
    """Why the running value is not what the checkpoint's optimizer did; empty if it is."""
    if rule.ambiguous:
        # The checkpoint may be that of several; the running optimizer is one of them, or is not.
        if value in rule.defaults.values():
            return ""
        return f"the checkpoint's optimizer is {kind.name}, for which it is never {value!r}"
    if value == rule.default:
        return ""
    return (
        f"it is {value!r} in the running optimizer, while the checkpoint's, {kind.name}, "
        f"did what {rule.default!r} means ({printable(kind.how)})"
    )


def _places(
    checkpoint: CheckpointLike, missing: Mapping[str, Path | None]
) -> Mapping[str, naming.Place]:
    """Where the names of a checkpoint, and those that a run asks for beside them, stand."""
    planner = checkpoint.planner_data or {}
    stored = dict.fromkeys((*planner, *checkpoint.entries))
    names = [(fqn, planner.get(fqn)) for fqn in stored]
    names += [(fqn, path) for fqn, path in missing.items() if fqn not in stored]
    tensors = {fqn for fqn, entry in checkpoint.entries.items() if hasattr(entry, "shape")}
    return places_of(names, tensors)[0] if missing else {}


def _group_entry(place: naming.Place | None) -> tuple[str, str, str] | None:
    """Return (root, the group's index or parameter, key) of a param group's entry."""
    if place is None or place.what != naming.GROUPS or not place.rest:
        return None
    owner, key = naming.split_group(place)
    return None if key is None else (place.root, str(owner), key)


def _groups(
    checkpoint: CheckpointLike, places: Mapping[str, naming.Place]
) -> dict[tuple[str, str], list[str]]:
    """(root, index or parameter) to the group's keys in the order of the running optimizer."""
    found: dict[tuple[str, str], list[str]] = {}
    planner = checkpoint.planner_data or {}
    order = [fqn for fqn in planner if fqn in checkpoint.entries]
    for fqn in dict.fromkeys((*order, *checkpoint.entries)):
        place = _group_entry(places.get(fqn))
        if place is not None and place[2] != "params":
            found.setdefault(place[:2], []).append(place[2])
    return found


def _slots(checkpoint: CheckpointLike) -> dict[str, frozenset[str]]:
    """Root to the state slots that its optimizer keeps."""
    return {
        raw.root: frozenset(slot for slots in raw.state.values() for slot in slots)
        for raw in collect(checkpoint)
    }
