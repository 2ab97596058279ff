"""Compares two checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from dcpctl import torch_bridge
from dcpctl.diff.contents import Contents, contents_by_checksum, contents_by_value
from dcpctl.diff.difference import Difference
from dcpctl.diff.key_groups import KeyGroup, group_keys, shares
from dcpctl.diff.layout_map import LayoutMap
from dcpctl.diff.layout_map import layout_map as map_layout
from dcpctl.diff.layouts import compare_layouts
from dcpctl.diff.objects import compare_objects
from dcpctl.diff.optimizer import compare_optimizers
from dcpctl.diff.options import (
    CONTENTS,
    KEYS,
    LAYOUT,
    OBJECTS,
    OPTIMIZER,
    SHAPES,
    VALUES,
    DiffOptions,
)
from dcpctl.diff.pairing import TryRename, pair
from dcpctl.diff.shapes import changed_specs
from dcpctl.diff.subject import Subject
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.fqn import strip_wrappers
from dcpctl.model.loading import LoadPreview, predict_load
from dcpctl.model.loading_keys import asked_by
from dcpctl.model.optimizer import naming
from dcpctl.model.rename_rules import Upgrading

#: Groups of rewritten tensors that are told one by one.
_FEW_GROUPS = 8


def diff(
    a: Checkpoint,
    b: Checkpoint,
    options: DiffOptions | None = None,
    *,
    try_rename: TryRename | None = None,
) -> Difference:
    """Say what differs between two checkpoints.

    Unless `options.values` asks for it, no tensor of more than one element is read. Imports no
    torch and writes nothing.

    Args:
        a: one; open, and it stays open.
        b: the other.
        options: what to compare; by default all that can be told without reading tensors.
        try_rename: as `pairing.pair` takes it.

    Returns:
        The difference; what cannot be read is in it, and no exception.
    """
    options = options or DiffOptions()
    aspects = options.aspects
    one, other = Subject(a, options.ignore), Subject(b, options.ignore)
    pairing = pair(one, other, try_rename)
    pairs = list(pairing.pairs())
    specs = tuple(changed_specs(one, other, pairs))
    unlike = {change.fqn_a for change in specs if not change.comparable}
    tensors = [p for p in pairs if p[0] in one.tensors and p[0] not in unlike]
    objects = [p for p in pairs if p[0] in one.objects and p[0] not in unlike]
    contents = _contents(one, other, tensors, options)
    names = pairing.names
    load = _load(one, other) if KEYS in aspects and VALUES not in aspects else None
    return Difference(
        a=one.side,
        b=other.side,
        options=options,
        ignored=tuple(sorted(one.ignored | other.ignored)),
        pairing=pairing,
        specs=specs if SHAPES in aspects else (),
        layout=compare_layouts(one, other, tensors) if LAYOUT in aspects else None,
        optimizer=compare_optimizers(one, other, pairing.parameters)
        if OPTIMIZER in aspects
        else None,
        objects=compare_objects(one, other, objects, names) if OBJECTS in aspects else None,
        contents=contents,
        load=load,
        anew=_anew(one, other, load),
        remedy=_remedy(one, other, load),
        misplaced=tuple(p for p in pairing.renamed if load is not None and p[1] in one.entries),
        removed=tuple(group_keys(pairing.removed, one.entries)),
        added=tuple(group_keys(pairing.added, other.entries)),
        rewritten=_rewritten(one, tensors, contents),
    )


def _contents(
    a: Subject, b: Subject, pairs: Sequence[tuple[str, str]], options: DiffOptions
) -> Contents | None:
    if VALUES in options.aspects:
        return contents_by_value(a, b, pairs, options)
    return contents_by_checksum(a, b, pairs) if CONTENTS in options.aspects else None


def _rewritten(
    a: Subject, pairs: Sequence[tuple[str, str]], contents: Contents | None
) -> tuple[KeyGroup, ...]:
    if contents is None or not contents.different:
        return ()
    compared = {fqn: a.entries[fqn] for fqn, _ in pairs}
    fqns = [one.a for one in contents.different]
    found = group_keys(fqns, compared)
    # Numbers that were read are told slot by slot: those of different slots do not compare.
    if contents.read or len(found) > _FEW_GROUPS:
        found = shares(fqns, compared)
    return tuple(found)


def _anew(a: Subject, b: Subject, load: LoadPreview | None) -> tuple[str, ...]:
    """The parameters that B has whose state in A stays on disk."""
    if load is None or load.skipped_optimizer is None:
        return ()
    left = set(load.skipped_optimizer.fqns)
    return tuple(
        parameter.name
        for parameter in a.view.parameters
        if strip_wrappers(parameter.name) in b.sections.model
        and parameter.slots
        and all(entry.fqn in left for entry in parameter.slots.values())
    )


def _remedy(a: Subject, b: Subject, load: LoadPreview | None) -> Upgrading | None:
    """The upgrade that adds all that A lacks, where that is group keys of a torch release."""
    target = b.release or torch_bridge.installed_version()
    if load is None or not load.missing or load.mismatched or target is None:
        return None
    added = {gone.key for gone in a.view.missing_group_keys(target)}
    paths = b.planner_data or {}
    for fqn in load.missing:
        place = naming.locate(fqn, paths.get(fqn))
        if place is None or place.what != naming.GROUPS or not place.rest:
            return None
        if naming.split_group(place)[1] not in added:
            return None
    return Upgrading(torch=b.release or None)


def _load(a: Subject, b: Subject) -> LoadPreview:
    return predict_load(asked_by(b.checkpoint, b.entries), a, paths=b.planner_data)


def layout_map(a: Checkpoint, b: Checkpoint, fqn: str) -> LayoutMap:
    """Return who owns what of one tensor; `fqn` is its key in either checkpoint.

    Raises:
        NothingSelected: neither has such a tensor.
    """
    one, other = Subject(a), Subject(b)
    return map_layout(one, other, fqn, pair(one, other).renamed)
