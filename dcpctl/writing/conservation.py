"""Proof that a result is what was planned, from what lies on disk, before it is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dcpctl.errors import DcpctlError, quote
from dcpctl.formats.metadata import parse_metadata
from dcpctl.formats.records import StoredBytes, StoredCheckpoint, StoredTensor
from dcpctl.model.draft import TensorDraft
from dcpctl.writing.files import Tally
from dcpctl.writing.plan import Plan
from dcpctl.writing.segments import NewTensor


class NotConserved(DcpctlError):
    """What was written is not what was planned: a bug in dcpctl, or a disk that lies."""

    id = "not-conserved"
    exit_code = 70


def prove(plan: Plan, staged: Path, tally: Tally) -> None:
    """Compare the keys, elements and bytes that were written with those that were planned.

    Args:
        plan: what was planned.
        staged: where `.metadata` and the files lie; in place, those that were there before do not.
        tally: what was counted while writing.

    Raises:
        NotConserved: they differ.
    """
    found = parse_metadata((staged / ".metadata").read_bytes())
    _keys(plan, found)
    for fqn, entry in found.entries.items():
        _entry(plan, fqn, entry)
    _files(plan, found, staged)
    _tally(plan, tally)


def _keys(plan: Plan, found: StoredCheckpoint) -> None:
    wanted, written = list(plan.draft.entries), list(found.entries)
    if wanted != written:
        odd = sorted(set(wanted) ^ set(written))
        _refuse(
            f"{len(written)} keys for {len(wanted)}; not in both: {[quote(key) for key in odd[:5]]}"
        )
    paths = plan.draft.planner_data
    if found.planner_data is not None and found.planner_data != dict(paths or {}):
        _refuse("the object paths differ")
    if found.orphans:
        _refuse(f"{len(found.orphans)} items belong to no entry")


def _entry(plan: Plan, fqn: str, entry: StoredTensor | StoredBytes) -> None:
    draft = plan.draft.entries[fqn]
    if isinstance(draft, TensorDraft) != isinstance(entry, StoredTensor):
        _refuse(f"{quote(fqn)} is of another kind")
    if not isinstance(draft, TensorDraft) or not isinstance(entry, StoredTensor):
        return
    if (entry.shape, entry.dtype) != (draft.shape, draft.dtype):
        _refuse(f"{quote(fqn)} is {entry.dtype}{list(entry.shape)}")
    wanted = plan.stored.entries[fqn]
    assert isinstance(wanted, StoredTensor)
    if draft.grid is not None and _elements(entry) != draft.numel:
        _refuse(f"{quote(fqn)}: {_elements(entry)} elements in chunks for {draft.numel}")
    same = np.array_equal(entry.chunks.offsets, wanted.chunks.offsets) and np.array_equal(
        entry.chunks.sizes, wanted.chunks.sizes
    )
    if not same:
        _refuse(f"{quote(fqn)} has other chunks")
    for column in ("file", "offset", "length"):
        left, right = getattr(entry.chunks, column), getattr(wanted.chunks, column)
        if column != "file" and not np.array_equal(left, right):
            _refuse(f"{quote(fqn)}: its items lie elsewhere")


def _elements(entry: StoredTensor) -> int:
    """Elements in all chunks; chunks of the same place count once."""
    boxes = np.concatenate([entry.chunks.offsets, entry.chunks.sizes], axis=1)
    distinct = np.unique(boxes, axis=0)[:, entry.chunks.offsets.shape[1] :]
    return int(distinct.prod(axis=1).sum())


def _files(plan: Plan, found: StoredCheckpoint, staged: Path) -> None:
    for file in plan.files:
        standing = file.link if plan.in_place else None
        size = (standing or staged / file.name).stat().st_size
        if size != file.size:
            _refuse(f"{quote(file.name)} has {size} bytes for {file.size}")
    ends = np.zeros(len(found.files), dtype=np.int64)
    for entry in found.entries.values():
        if isinstance(entry, StoredBytes):
            ends[entry.file] = max(int(ends[entry.file]), entry.offset + entry.length)
        else:
            held = entry.chunks.file >= 0
            stop = entry.chunks.offset[held] + entry.chunks.length[held]
            np.maximum.at(ends, entry.chunks.file[held], stop)
    sizes = {file.name: file.size for file in plan.files}
    for name, end in zip(found.files, ends.tolist(), strict=True):
        if end > sizes.get(name, -1):
            _refuse(f"{quote(name)}: items reach to byte {end} of {sizes.get(name)}")


def _tally(plan: Plan, tally: Tally) -> None:
    planned = sum(file.size for file in plan.files if file.name in tally.files)
    if sum(tally.files.values()) != planned:
        _refuse(f"{sum(tally.files.values())} bytes written for {planned}")
    elements = sum(
        int(np.prod(part.sizes, dtype=np.int64))
        for file in plan.files
        if file.link is None and file.name in tally.files
        for part in file.segments
        if isinstance(part, NewTensor)
    )
    if tally.elements != elements:
        _refuse(f"{tally.elements} elements written for {elements}")


def _refuse(what: str) -> None:
    raise NotConserved(f"the result is not what was planned: {what}; nothing was published")
