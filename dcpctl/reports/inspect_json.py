"""What `inspect` found as JSON: the contract `dcpctl.inspect/1`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dcpctl.errors import DcpctlError
from dcpctl.formats.pickles.packed import inner_tensors, logical_bytes, packed_bytes
from dcpctl.formats.pickles.standins import PackedTensor
from dcpctl.inspect.files import RankShare
from dcpctl.inspect.keys import Branch
from dcpctl.inspect.runs import Run, Save
from dcpctl.inspect.statistics import Statistics
from dcpctl.inspect.summary import Summary
from dcpctl.model.checkpoint import Checkpoint, Entry
from dcpctl.model.copies import Copies
from dcpctl.model.entry import BytesEntry, TensorEntry
from dcpctl.model.optimizer.shares import Share
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.packed import packed_or_none
from dcpctl.model.shard_file import ShardFile
from dcpctl.model.values import to_json

SCHEMA = "dcpctl.inspect/1"


def head(checkpoint: Checkpoint) -> dict[str, Any]:
    """What every document about a checkpoint begins with."""
    return {
        "schema": SCHEMA,
        "path": str(checkpoint.path),
        "format": checkpoint.format,
        "parts": [part.name for part in checkpoint.parts],
    }


def summary_document(summary: Summary) -> dict[str, Any]:
    """Everything but the entries; keys are added freely and never renamed within `/1`."""
    checkpoint = summary.checkpoint
    releases = summary.releases
    return {
        **head(checkpoint),
        "releases": {
            "words": releases.words,
            "first": _release(releases.first),
            "last": _release(releases.last),
            "evidence": [piece.shows for piece in releases.evidence],
        },
        "ranks": list(checkpoint.ranks),
        "files": list(file_documents(checkpoint.files)),
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
        "packed": [
            {
                "class": found.type,
                "form": found.form or None,
                "tensors": len(found.fqns),
                "bytes": found.nbytes,
                "packed_bytes": found.packed_bytes,
                "inner": [
                    {"name": name, "dtype": dtype, "shape": list(shape)}
                    for name, dtype, shape in found.inner
                ],
            }
            for found in summary.packed
        ],
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
        "copies": None if summary.copies is None else _copies(summary.copies),
        "optimizer": optimizer_document(summary.optimizer),
        "torch": summary.target,
        "obstacles": list(summary.obstacles),
    }


def _copies(copies: Copies) -> dict[str, Any]:
    return {
        "keys": len(copies.of),
        "equal": len(copies.equal),
        "differing": [
            {"fqn": one.fqn, "kept": one.kept, "ranks": list(one.ranks)} for one in copies.differing
        ],
        "unknown": [{"fqn": one.fqn, "reason": one.reason} for one in copies.unknown],
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
        "witnesses": [
            {"source": w.source, "step": to_json(w.step), "kind": w.kind, "sure": w.sure}
            for w in view.witnesses.counts
        ],
        "schedulers": [
            {"source": one.source, "last_epoch": to_json(one.last_epoch)}
            for one in view.witnesses.schedules
        ],
        "param_groups": groups,
        "missing": [
            {"fqn": gone.fqn, "slot": gone.slot, "status": gone.status, "why": gone.why}
            for gone in view.missing
        ],
        "faults": [
            {
                "fqn": fault.fqn,
                "slot": fault.slot,
                "parameter": p.name,
                "kind": fault.kind,
                "why": fault.why,
            }
            for p in view.parameters
            for fault in p.faults
        ],
        "flaws": list(view.flaws),
        "frozen": list(view.frozen),
        "tied": dict(view.tied),
        "unreadable": list(view.unreadable),
        "unknown": [{"fqn": gone.fqn, "reason": gone.reason} for gone in view.unknown],
        "notes": list(view.notes),
        "optimizers": [_share(share) for share in view.shares],
        "models": [model.root for model in view.sections.models],
        "copies": [
            {"root": copy.root, "of": copy.of, "tensors": len(copy.names)}
            for copy in view.sections.copies
        ],
    }


def _share(share: Share) -> dict[str, Any]:
    """One optimizer: whose it is, and its own verdict."""
    return {
        "root": share.root,
        "model": share.pairing.model,
        "evidence": share.pairing.evidence,
        "ambiguous": list(share.pairing.candidates),
        "verdict": share.verdict,
        "kind": share.kind,
        "parameters": len(share.parameters),
        "steps": [to_json(step) for step in share.steps],
    }


def entry_documents(
    checkpoint: Checkpoint, fqns: Iterable[str], *, chunks: bool
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
        held = packed_or_none(entry) if chunks else checkpoint.packed.get(entry.fqn)
        if held is not None:
            found["packed"] = packed_document(held)
        if chunks:
            found["chunks"] = _chunks(checkpoint, entry)
        return found
    return _object(checkpoint, entry)


def packed_document(held: PackedTensor) -> dict[str, Any]:
    """The tensor that an item of a subclass or a packed one holds, and what is in it."""
    return {
        "class": held.type,
        "form": held.form or None,
        "bytes": logical_bytes(held),
        "packed_bytes": packed_bytes(held),
        "inner": [
            {"name": name, "dtype": ref.dtype, "shape": list(ref.shape)}
            for name, ref in inner_tensors(held).items()
        ],
    }


def _object(checkpoint: Checkpoint, entry: BytesEntry) -> dict[str, Any]:
    file = checkpoint.files[entry.file] if entry.file >= 0 else None
    found: dict[str, Any] = {"fqn": entry.fqn, "kind": "bytes", "value": None, "type": None}
    try:
        found["type"] = entry.type
        found["value"] = to_json(entry.value)
    except DcpctlError as error:
        found["error"] = _error(error)
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


def run_document(
    path: Path, runs: Sequence[Run], unread: Mapping[Path, str]
) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """Runs in a directory: the head of their document, and the saves, newest of each run first."""
    head = {
        "schema": SCHEMA,
        "path": str(path),
        "runs": [
            {
                "path": str(run.path),
                "saves": len(run.saves),
                "newest_complete": _path(run.newest_complete),
                "resume_from": _path(run.resume_from),
                "never_trained": sorted(run.never_trained),
            }
            for run in runs
        ],
        "not_looked_into": [{"path": str(where), "why": why} for where, why in unread.items()],
    }
    return head, (_save(run, save) for run in runs for save in run.saves)


def _save(run: Run, save: Save) -> dict[str, Any]:
    resets = {id(newer): str(older.path) for newer, older in run.resets}
    at = save.position
    return {
        "step": save.step,
        "step_from": save.step_from or None,
        "position": None if at is None else {"unit": at.unit, "value": at.value, "epoch": at.epoch},
        "path": str(save.path),
        "run": str(save.run),
        "links": [str(link) for link in save.links],
        "verdict": save.verdict,
        "export": save.weights_only,
        "kind": save.kind,
        "steps": [to_json(step) for step in save.steps],
        "keys": save.keys,
        "bytes": save.nbytes,
        "sentence": save.sentence,
        "moments_lost": save.moments_lost,
        "reset_after": resets.get(id(save)),
        "why_not": run.why_not(save) or None,
        "error": _error(save.error),
    }


def _path(save: Save | None) -> str | None:
    return None if save is None else str(save.path)


def branch_document(branch: Branch) -> dict[str, Any]:
    """A branch of the tree of keys, with what is below it."""
    return {
        "name": branch.name,
        "fqn": branch.entry.fqn if branch.entry is not None else None,
        "alike": branch.alike,
        "tensors": branch.tensors,
        "objects": branch.objects,
        "bytes": branch.nbytes,
        "children": [branch_document(child) for child in branch.children.values()],
    }


def file_documents(files: Iterable[ShardFile]) -> Iterator[dict[str, Any]]:
    """Shard files; `bytes` is null for one that is not there."""
    for file in files:
        yield {
            "name": file.name,
            "rank": file.rank,
            "bytes": file.size,
            "described_bytes": file.described_bytes,
            "items": file.items,
        }


def rank_documents(ranks: Iterable[RankShare]) -> Iterator[dict[str, Any]]:
    """What each rank wrote, and its bytes relative to the mean."""
    for share in ranks:
        yield {
            "rank": share.rank,
            "files": share.files,
            "items": share.items,
            "bytes": share.nbytes,
            "balance": share.balance,
        }


def parameter_documents(view: OptimizerView) -> Iterator[dict[str, Any]]:
    """Every trained parameter, its state slots and what holds them."""
    for parameter in view.parameters:
        yield {
            "name": parameter.name,
            "fqn": parameter.fqn,
            "shape": None if parameter.shape is None else list(parameter.shape),
            "status": parameter.status,
            "why": parameter.why,
            "expected": list(parameter.expected),
            "missing": list(parameter.missing),
            "step": to_json(view.step_of.get(parameter.name)),
            "slots": {
                slot: {
                    "fqn": entry.fqn,
                    "dtype": entry.dtype,
                    "shape": None if entry.shape is None else list(entry.shape),
                }
                for slot, entry in parameter.slots.items()
            },
        }


def statistics_documents(
    found: Iterable[Statistics], unread: Iterable[tuple[str, DcpctlError]]
) -> Iterator[dict[str, Any]]:
    """Statistics of each tensor; one that could not be read has an `error` instead."""
    for stats in found:
        yield {
            "fqn": stats.fqn,
            "dtype": stats.dtype,
            "shape": list(stats.shape),
            "count": stats.count,
            "min": to_json(stats.min),
            "max": to_json(stats.max),
            "mean": to_json(stats.mean),
            "std": to_json(stats.std),
            "zeros": stats.zeros,
            "nans": stats.nans,
            "infs": stats.infs,
        }
    for fqn, error in unread:
        yield {"fqn": fqn, "error": _error(error)}


def _error(error: DcpctlError | None) -> dict[str, str] | None:
    return None if error is None else {"id": error.id, "message": error.message}


def _release(release: tuple[int, int] | None) -> str | None:
    return f"{release[0]}.{release[1]}" if release else None
