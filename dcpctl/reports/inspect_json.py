"""What `inspect` found as JSON: the contract `dcpctl.inspect/1`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dcpctl.errors import DcpctlError
from dcpctl.inspect.runs import Save
from dcpctl.inspect.summary import Summary
from dcpctl.model.checkpoint import Checkpoint, Entry
from dcpctl.model.entry import BytesEntry, TensorEntry
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.values import to_json

SCHEMA = "dcpctl.inspect/1"


def summary_document(summary: Summary) -> dict[str, Any]:
    """Everything but the entries; keys are added freely and never renamed within `/1`."""
    checkpoint = summary.checkpoint
    releases = summary.releases
    return {
        "schema": SCHEMA,
        "path": str(checkpoint.path),
        "format": checkpoint.format,
        "parts": [part.name for part in checkpoint.parts],
        "releases": {
            "words": releases.words,
            "first": _release(releases.first),
            "last": _release(releases.last),
            "evidence": [piece.shows for piece in releases.evidence],
        },
        "ranks": list(checkpoint.ranks),
        "files": [
            {
                "name": file.name,
                "rank": file.rank,
                "bytes": file.size,
                "described_bytes": file.described_bytes,
                "items": file.items,
            }
            for file in checkpoint.files
        ],
        "keys": len(checkpoint),
        "tensors": len(checkpoint.tensors),
        "chunks": summary.chunks,
        "bytes": summary.nbytes,
        "disk_bytes": summary.disk_bytes,
        "dtypes": {
            share.dtype: {"tensors": share.tensors, "bytes": share.nbytes}
            for share in summary.dtypes
        },
        "layout": summary.layouts.words,
        "sections": {
            share.name: {
                "tensors": share.tensors,
                "objects": share.objects,
                "bytes": share.nbytes,
                "dtypes": list(share.dtypes),
                "layout": share.layout,
            }
            for share in summary.sections
        },
        "optimizer": optimizer_document(summary.optimizer),
    }


def optimizer_document(view: OptimizerView) -> dict[str, Any]:
    """The optimizer's verdict and what it rests on."""
    # The groups are read first: what turns out to be unreadable belongs to the verdict's words.
    groups = [
        {**{key: to_json(value) for key, value in group.values.items()}, "params": [*group.params]}
        for group in view.param_groups
    ]
    return {
        "verdict": view.verdict,
        "sentence": view.sentence,
        "kind": view.kind,
        "how": view.how,
        "candidates": list(view.candidates),
        "style": view.style,
        "parameters": len(view.parameters),
        "slots": {
            slot: {"present": count.present, "expected": count.expected}
            for slot, count in view.slots.items()
        },
        "steps": [to_json(step) for step in view.steps],
        "param_groups": groups,
        "missing": [
            {"fqn": gone.fqn, "slot": gone.slot, "status": gone.status, "why": gone.why}
            for gone in view.missing
        ],
        "frozen": list(view.frozen),
        "tied": dict(view.tied),
        "unreadable": list(view.unreadable),
        "notes": list(view.notes),
    }


def entry_documents(
    checkpoint: Checkpoint, fqns: Iterator[str], *, chunks: bool
) -> Iterator[dict[str, Any]]:
    """One document per entry; bytes entries are decoded on the way.

    Args:
        checkpoint: an open checkpoint.
        fqns: which entries, in which order.
        chunks: with every chunk of every tensor.
    """
    for fqn in fqns:
        yield entry_document(checkpoint, checkpoint[fqn], chunks=chunks)


def entry_document(checkpoint: Checkpoint, entry: Entry, *, chunks: bool) -> dict[str, Any]:
    """An entry: `fqn`, `kind`, and what its kind has."""
    if isinstance(entry, TensorEntry):
        found: dict[str, Any] = {
            "fqn": entry.fqn,
            "kind": "tensor",
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "bytes": entry.nbytes,
            "num_chunks": entry.num_chunks,
        }
        if chunks:
            found["chunks"] = _chunks(checkpoint, entry)
        return found
    return _object(checkpoint, entry)


def _object(checkpoint: Checkpoint, entry: BytesEntry) -> dict[str, Any]:
    file = checkpoint.files[entry.file] if entry.file >= 0 else None
    found: dict[str, Any] = {"fqn": entry.fqn, "kind": "bytes", "value": None, "type": None}
    try:
        found["type"] = entry.type
        found["value"] = to_json(entry.value)
    except DcpctlError as error:
        found["error"] = {"id": error.id, "message": str(error)}
    found["file"] = file.name if file else None
    found["offset"] = entry.offset
    found["length"] = entry.length
    found["rank"] = file.rank if file else None
    return found


def _chunks(checkpoint: Checkpoint, entry: TensorEntry) -> list[dict[str, Any]]:
    files = checkpoint.files
    return [
        {
            "offsets": chunk.offsets,
            "sizes": chunk.sizes,
            "file": files[chunk.file].name if chunk.file >= 0 else None,
            "offset": chunk.offset,
            "length": chunk.length,
            "rank": files[chunk.file].rank if chunk.file >= 0 else None,
        }
        for chunk in entry.chunks
    ]


def run_document(path: str, saves: list[Save]) -> dict[str, Any]:
    """A run directory: its saves, newest first."""
    return {
        "schema": SCHEMA,
        "path": path,
        "run": [
            {
                "step": save.step,
                "path": str(save.path),
                "verdict": save.verdict,
                "kind": save.kind,
                "optimizer_steps": [to_json(step) for step in save.steps],
                "bytes": save.nbytes,
                "keys": save.keys,
                "sentence": save.sentence,
                "error": save.error and {"id": save.error.id, "message": str(save.error)},
            }
            for save in saves
        ],
    }


def _release(release: tuple[int, int] | None) -> str | None:
    return f"{release[0]}.{release[1]}" if release else None
