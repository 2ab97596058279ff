"""Proof that a result is what was planned, from what lies on disk, before it is published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dcpctl.errors import DcpctlError, quote
from dcpctl.formats.crc import crc32_range
from dcpctl.formats.layouts import safetensors_files
from dcpctl.formats.metadata import DCP, parse_metadata
from dcpctl.formats.records import StoredBytes, StoredCheckpoint, StoredTensor
from dcpctl.model.draft import TensorDraft
from dcpctl.storage.local import LocalStorage
from dcpctl.writing.files import Tally
from dcpctl.writing.plan import PartPlan, Plan
from dcpctl.writing.segments import NewTensor


class NotConserved(DcpctlError):
    """What was written is not what was planned: a bug in dcpctl, or a disk that lies."""

    id = "not-conserved"
    exit_code = 70


def prove(plan: Plan, staged: Path, tally: Tally) -> None:
    """Compare the keys, elements and bytes that were written with those that were planned.

    Args:
        plan: what was planned.
        staged: where the metadata and the files lie; in place, what was there before does not.
        tally: what was counted while writing.

    Raises:
        NotConserved: they differ.
    """
    sizes = _sizes(plan, staged)
    entries = 0
    for part in plan.parts:
        entries += len(part.draft.entries)
        if part.stays:
            continue
        found = _read(part, staged)
        _keys(part, found)
        for fqn, entry in found.entries.items():
            _entry(part, fqn, entry)
        _ends(part, found, sizes)
    if entries != len(plan.draft.entries):
        _refuse(f"{entries} keys in all parts for {len(plan.draft.entries)}")
    _tally(plan, tally)
    _beside(plan, staged, tally)


def _read(part: PartPlan, staged: Path) -> StoredCheckpoint:
    """What a reader finds in one directory of the result."""
    if part.stored.form == DCP:
        return parse_metadata((staged / part.located(".metadata")).read_bytes())
    with LocalStorage(staged / part.name) as storage:
        found = safetensors_files.read(storage)
    # The files follow their names there, and not the order of the draft.
    ordered = {f: found.entries.pop(f) for f in part.draft.entries if f in found.entries}
    found.entries = {**ordered, **found.entries}
    found.planner_data = None
    return found


def _keys(plan: PartPlan, found: StoredCheckpoint) -> None:
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


def _entry(plan: PartPlan, fqn: str, entry: StoredTensor | StoredBytes) -> None:
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


def _sizes(plan: Plan, staged: Path) -> dict[str, int]:
    """Path in the result -> bytes of every file, having seen that it has as many as planned."""
    for file in plan.files:
        standing = file.link if plan.in_place else None
        size = (standing or staged / file.name).stat().st_size
        if size != file.size:
            _refuse(f"{quote(file.name)} has {size} bytes for {file.size}")
    return {file.name: file.size for file in plan.files}


def _ends(part: PartPlan, found: StoredCheckpoint, sizes: Mapping[str, int]) -> None:
    ends = np.zeros(len(found.files), dtype=np.int64)
    for entry in found.entries.values():
        if isinstance(entry, StoredBytes):
            ends[entry.file] = max(int(ends[entry.file]), entry.offset + entry.length)
        else:
            held = entry.chunks.file >= 0
            stop = entry.chunks.offset[held] + entry.chunks.length[held]
            np.maximum.at(ends, entry.chunks.file[held], stop)
    for name, end in zip(found.files, ends.tolist(), strict=True):
        size = sizes.get(part.located(name), -1)
        if end > size:
            _refuse(f"{quote(part.located(name))}: items reach to byte {end} of {size}")


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


def _beside(plan: Plan, staged: Path, tally: Tally) -> None:
    """Compare the files beside the shards that were copied: nothing else has a checksum of them."""
    with LocalStorage(staged) as storage:
        for file in plan.files:
            if file.source < plan.sources.shards or file.name not in tally.files:
                continue
            source = plan.sources.files[file.source]
            wanted = crc32_range(source.storage, source.name, 0, file.size)
            if crc32_range(storage, file.name, 0, file.size) != wanted:
                _refuse(f"{quote(file.name)} has other bytes than its source")


def _refuse(what: str) -> None:
    raise NotConserved(f"the result is not what was planned: {what}; nothing was published")
