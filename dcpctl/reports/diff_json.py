"""What `diff` found as JSON: the contract `dcpctl.diff/1`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dcpctl.diff.difference import Difference
from dcpctl.diff.layout_map import LayoutMap, TensorMap
from dcpctl.diff.layouts import LayoutDifference, RankLoad
from dcpctl.diff.optimizer import GroupChange, OptimizerDifference
from dcpctl.diff.subject import Side
from dcpctl.diff.values import READ
from dcpctl.errors import DcpctlError
from dcpctl.model.contract import Spec
from dcpctl.model.loading import LoadPreview
from dcpctl.model.loading_errors import Mismatch
from dcpctl.model.values import to_json
from dcpctl.reports.diff_keys import command_of

SCHEMA = "dcpctl.diff/1"


def diff_document(found: Difference) -> dict[str, Any]:
    """Everything but the lists of keys; keys are added freely and never renamed within `/1`."""
    pairing, contents = found.pairing, found.contents
    return {
        "schema": SCHEMA,
        "a": _side(found.a),
        "b": _side(found.b),
        "same": found.same,
        "counts": dict(found.counts),
        "ignored": list(found.ignored),
        "keys": {
            "same": len(pairing.same),
            "removed": len(pairing.removed),
            "added": len(pairing.added),
            "renamed": len(pairing.renamed),
        },
        "rename_rules": [
            {"old": rule.old, "new": rule.new, "keys": rule.keys} for rule in pairing.rules
        ],
        "rename_commands": [list(command_of(edit)) for edit in pairing.edits],
        "regrouped": None
        if pairing.regrouped is None
        else {
            "a": pairing.regrouped.form_a,
            "b": pairing.regrouped.form_b,
            "keys_a": list(pairing.regrouped.keys_a),
            "keys_b": list(pairing.regrouped.keys_b),
        },
        "layout": None if found.layout is None else _layout(found.layout),
        "optimizer": None if found.optimizer is None else _optimizer(found.optimizer),
        "contents": None
        if contents is None
        else {
            "read": contents.read,
            "tensors": contents.tensors,
            "equal": contents.equal,
            "proven": contents.proven,
            "different": len(contents.different),
            "unknown": len(contents.unknown),
            "tolerance": found.options.tolerance,
        },
        "load": None
        if found.load is None
        else {
            **_load(found.load),
            "begins_anew": list(found.anew),
            "remedy": [] if found.remedy is None else list(command_of(found.remedy)),
            "misplaced": [{"a": old, "b": new} for old, new in found.misplaced],
        },
    }


def diff_lists(found: Difference) -> Mapping[str, Iterable[Any]]:
    """The lists, an item a line."""
    return {
        "removed": found.pairing.removed,
        "added": found.pairing.added,
        "renamed": ({"a": old, "b": new} for old, new in found.pairing.renamed),
        "specs": (
            {"a": change.fqn_a, "b": change.fqn_b, "in_a": _spec(change.a), "in_b": _spec(change.b)}
            for change in found.specs
        ),
        "objects": _objects(found),
        "values": _values(found),
        "unread": (
            {"a": old, "b": new, "error": error.id, "message": error.message}
            for old, new, error in found.unread
        ),
    }


def map_document(a: Path, b: Path, found: LayoutMap) -> dict[str, Any]:
    """Who owns what of one tensor."""
    return {
        "schema": SCHEMA,
        "same": found.same,
        "layout_map": {
            side: {"path": str(path), **({} if made is None else _tensor_map(made))}
            for side, path, made in (("a", a, found.a), ("b", b, found.b))
        },
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "path": str(side.path),
        "format": side.format,
        "keys": side.keys,
        "tensors": side.tensors,
        "bytes": side.nbytes,
    }


def _spec(spec: Spec) -> dict[str, Any]:
    shape = None if spec.shape is None else list(spec.shape)
    return {"kind": "object" if shape is None else "tensor", "dtype": spec.dtype, "shape": shape}


def _layout(layout: LayoutDifference) -> dict[str, Any]:
    return {
        "changed": layout.changed,
        "a": {"words": layout.a, **_rank_load(layout.load_a)},
        "b": {"words": layout.b, **_rank_load(layout.load_b)},
        "groups": [
            {
                "a": group.a,
                "b": group.b,
                "how": group.how,
                "tensors": len(group.pairs),
                "keys": [old for old, _ in group.pairs],
            }
            for group in layout.groups
        ],
    }


def _rank_load(load: RankLoad) -> dict[str, Any]:
    return {"ranks": load.ranks, "files": load.files, "imbalance": load.imbalance}


def _optimizer(found: OptimizerDifference) -> dict[str, Any]:
    return {
        "changed": found.changed,
        "kind": list(found.kind),
        "verdict": list(found.verdict),
        "style": list(found.style),
        "slots": {slot: list(counts) for slot, counts in found.slots.items()},
        "steps": [
            [{"step": _number(step), "parameters": count} for step, count in steps.items()]
            for steps in found.steps
        ],
        "parameters": list(found.parameters),
        "groups": list(found.groups),
        "changes": [_group(change) for change in found.changes],
        "unknown": [
            [{"fqn": gone.fqn, "reason": gone.reason} for gone in side] for side in found.unknown
        ],
    }


def _group(change: GroupChange) -> dict[str, Any]:
    return {
        "a": change.a,
        "b": change.b,
        "parameters": change.parameters,
        "changed": {
            key: {"a": _value(one), "b": _value(other)}
            for key, (one, other) in change.changed.items()
        },
        "removed": {key: _value(value) for key, value in change.removed.items()},
        "added": {key: _value(value) for key, value in change.added.items()},
        "left": list(change.left),
        "joined": list(change.joined),
    }


def _load(load: LoadPreview) -> dict[str, Any]:
    lost = load.skipped_optimizer
    return {
        "raises": load.raises,
        "error": load.error_text or None,
        "missing": list(load.missing),
        "mismatched": [_mismatch(pair) for pair in load.mismatched],
        "converted": [_mismatch(pair) for pair in load.converted],
        "replaced": [_mismatch(pair) for pair in load.replaced],
        "skipped": list(load.skipped),
        "skipped_optimizer": None
        if lost is None
        else {
            "keys": len(lost.fqns),
            "parameters": lost.parameters,
            "bytes": lost.nbytes,
            "whole": lost.whole,
        },
    }


def _mismatch(pair: Mismatch) -> dict[str, Any]:
    return {"fqn": pair.fqn, "asked": _spec(pair.asked), "stored": _spec(pair.stored)}


def _objects(found: Difference) -> Iterator[dict[str, Any]]:
    for change in found.objects.changed if found.objects is not None else ():
        yield {
            "a": change.fqn_a,
            "b": change.fqn_b,
            "section": change.section,
            "in_a": _value(change.a),
            "in_b": _value(change.b),
        }


def _values(found: Difference) -> Iterator[dict[str, Any]]:
    for one in found.contents.different if found.contents is not None else ():
        read = one.how == READ
        yield {
            "a": one.a,
            "b": one.b,
            "how": one.how,
            "elements": one.numel,
            "unequal": one.unequal if read else None,
            "nonfinite": one.nonfinite if read else None,
            "max_abs": _number(one.max_abs) if read else None,
            "worst": list(one.worst) if one.worst is not None else None,
            "relative_l2": _number(one.relative_l2) if read else None,
            "cosine": _number(one.cosine) if read else None,
        }


def _tensor_map(made: TensorMap) -> dict[str, Any]:
    return {
        "fqn": made.fqn,
        "dtype": made.dtype,
        "shape": list(made.shape),
        "layout": made.words,
        "boxes": [
            {"rank": box.rank, "starts": list(box.starts), "stops": list(box.stops)}
            for box in made.boxes
        ],
    }


def _value(value: Any) -> Any:
    try:
        return to_json(value)
    except DcpctlError:
        return None


def _number(value: float | None) -> float | str | None:
    """JSON has neither NaN nor infinities; they are the strings that `to_json` gives."""
    if value is None or math.isfinite(value):
        return value
    text: str = to_json(value)
    return text
