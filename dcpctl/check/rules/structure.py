"""DCP1xx: do the chunks of each tensor make the tensor, and do the entries agree?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpctl.check import words
from dcpctl.check.finding import ERROR, WARNING
from dcpctl.check.item_reader import ItemReport
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.errors import DcpctlError, printable, quote
from dcpctl.formats.dtypes import itemsize
from dcpctl.formats.pickles.imports import VALUED, Import
from dcpctl.formats.pickles.torch_names import lacks
from dcpctl.model.entry import TensorEntry


@rule("DCP101", ERROR, "a chunk reaches out of its tensor")
def out_of_bounds(run: Run) -> Iterator[Hit]:
    """Offsets or sizes that do not lie inside the shape."""
    for fqn, tiling in run.unsound.items():
        if len(tiling.outside):
            entry = run.checkpoint.tensors[fqn]
            first = entry.chunks[int(tiling.outside[0])]
            more = len(tiling.outside) - 1
            yield Hit(
                fqn,
                f"chunk {words.sized_box(first.offsets, first.sizes)} is not inside the shape "
                f"{list(entry.shape)}" + (f", nor are {more:,} more" if more else ""),
            )


@rule("DCP102", ERROR, "chunks overlap")
def overlap(run: Run) -> Iterator[Hit]:
    """Two different chunks that hold the same elements."""
    for fqn, tiling in run.unsound.items():
        if tiling.overlap is not None:
            a, b, shared = tiling.overlap
            chunks = run.checkpoint.tensors[fqn].chunks
            boxes = [words.sized_box(chunks[row].offsets, chunks[row].sizes) for row in (a, b)]
            yield Hit(
                fqn,
                f"chunks {boxes[0]} and {boxes[1]} overlap in {words.box(*shared)}; "
                f"{words.count(tiling.doubled, 'element')} of {tiling.numel:,} held more than once",
            )


@rule("DCP103", ERROR, "no chunk holds some elements")
def hole(run: Run) -> Iterator[Hit]:
    """Elements of a tensor that lie in no chunk."""
    for fqn, tiling in run.unsound.items():
        if not tiling.holes:
            continue
        told = sum(math.prod(b - a for a, b in zip(*hole, strict=True)) for hole in tiling.holes)
        more = tiling.numel - tiling.covered - told
        where = ", ".join(words.box(*hole) for hole in tiling.holes)
        yield Hit(
            fqn,
            f"chunks cover {tiling.covered} of {tiling.numel} elements; missing {where}"
            + (f" and {words.count(more, 'more element')}" if more else ""),
        )
    irregular = [fqn for fqn, tiling in run.unsound.items() if tiling.irregular]
    if irregular:
        raise CannotRun(f"chunks lie too irregularly to be counted in {words.some(irregular)}")


@rule("DCP104", WARNING, "a chunk is listed twice")
def duplicate(run: Run) -> Iterator[Hit]:
    """The same box in the chunk list more than once."""
    for fqn, tiling in run.unsound.items():
        if len(tiling.repeated):
            first = run.checkpoint.tensors[fqn].chunks[int(tiling.repeated[0])]
            more = len(tiling.repeated) - 1
            yield Hit(
                fqn,
                f"chunk {words.sized_box(first.offsets, first.sizes)} is listed more than once"
                + (f", and so {'is' if more == 1 else 'are'} {more:,} more" if more else ""),
            )


@rule("DCP105", ERROR, "chunks have another number of dimensions than their tensor")
def dims(run: Run) -> Iterator[Hit]:
    """Chunk offsets or sizes of the wrong rank, or a negative shape."""
    for fqn, entry in run.checkpoint.tensors.items():
        if min(entry.shape, default=0) < 0:
            yield Hit(fqn, f"the shape {list(entry.shape)} is negative")
        elif not run.is_regular(entry):
            of_offsets, of_sizes = entry.chunks.offsets.shape[1], entry.chunks.sizes.shape[1]
            yield Hit(
                fqn,
                f"its chunks have {of_offsets}-d offsets and {of_sizes}-d sizes, "
                f"the tensor {list(entry.shape)} is {len(entry.shape)}-d",
            )


@rule("DCP106", ERROR, "a storage item cannot hold what dtype and sizes ask for")
def item_size(run: Run) -> Iterator[Hit]:
    """Items shorter than their chunk's numbers: the dtype or the sizes are not those stored."""
    for fqn, entry in run.checkpoint.tensors.items():
        chunks = entry.chunks
        if entry.stored.transforms or not len(chunks) or not run.is_regular(entry):
            continue
        # As floats, which do not overflow; they are exact below 2**53 bytes.
        needed = chunks.sizes.astype(np.float64).prod(axis=1) * itemsize(entry.dtype)
        bad = needed > chunks.length
        if entry.stored.encoding == "raw":
            bad = needed != chunks.length
        rows = np.flatnonzero(bad & (chunks.file >= 0) & (chunks.sizes >= 0).all(axis=1))
        if len(rows) and entry.stored.encoding == "torch":
            rows = _without_packed(entry, rows)
        if len(rows):
            first = chunks[int(rows[0])]
            more = len(rows) - 1
            yield Hit(
                fqn,
                f"the item of chunk {words.sized_box(first.offsets, first.sizes)} has "
                f"{words.count(first.length, 'byte')}, {entry.dtype}{list(first.sizes)} takes "
                f"{int(needed[rows[0]]):,}" + (f"; so in {more:,} more" if more else ""),
                run.checkpoint.files[first.file].name,
                first.offset,
            )


def _without_packed(entry: TensorEntry, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """The rows whose items are no packed tensors; one of each sizes and length is opened."""
    chunks = entry.chunks
    known: dict[tuple[object, ...], bool] = {}
    left = []
    for row in rows.tolist():
        key = (chunks.length[row].item(), *chunks.sizes[row].tolist())
        if key not in known:
            try:
                known[key] = entry.packed(row) is not None
            except DcpctlError:
                known[key] = False
        if not known[key]:
            left.append(row)
    return np.array(left, dtype=np.intp)


@rule("DCP107", ERROR, "planner data and keys disagree")
def planner_data(run: Run) -> Iterator[Hit]:
    """Keys that only one of the two maps of the metadata has."""
    told = False
    for part in run.checkpoint.parts:
        planner, entries = part.stored.planner_data, part.stored.entries
        if planner is None:
            continue
        told = True
        where = part.located(part.stored.metadata_file)
        lost = [fqn for fqn in planner if fqn not in entries]
        if lost:
            yield Hit(
                where,
                f"the planner data name {words.count(len(lost), 'key')} that no entry holds, lost "
                f"when they were saved: {words.some(lost)}",
            )
        unnamed = [fqn for fqn in entries if fqn not in planner]
        if unnamed:
            yield Hit(
                where,
                f"{words.count(len(unnamed), 'entry', 'entries')} without planner data: "
                f"{words.some(unnamed)}",
            )
    if not told:
        raise CannotRun("the checkpoint has no planner data")


@rule("DCP108", ERROR, "no storage item holds an entry or chunk")
def no_storage_item(run: Run) -> Iterator[Hit]:
    """An entry or chunk whose bytes lie nowhere."""
    for fqn, entry in run.checkpoint.tensors.items():
        rows = np.flatnonzero(entry.chunks.file < 0)
        if len(rows):
            first = entry.chunks[int(rows[0])]
            yield Hit(
                fqn,
                f"no storage item holds {len(rows):,} of its "
                f"{words.count(len(entry.chunks), 'chunk')}, such as "
                f"{words.sized_box(first.offsets, first.sizes)}",
            )
    for fqn, value in run.checkpoint.bytes_entries.items():
        if value.file < 0:
            yield Hit(fqn, "no storage item holds it")


@rule("DCP109", WARNING, "a storage item belongs to no entry")
def orphan(run: Run) -> Iterator[Hit]:
    """Items under a key or under offsets that no entry has."""
    for part in run.checkpoint.parts:
        for item in part.stored.orphans:
            at = f" at {list(item.offsets)}" if item.offsets else ""
            yield Hit(
                item.fqn,
                f"a storage item of {words.count(item.length, 'byte')}{at} belongs to no entry",
                part.located(part.stored.files[item.file]) if item.file >= 0 else None,
                item.offset,
            )


@rule("DCP112", ERROR, "two storage items have one index", security=True)
def repeated_index(run: Run) -> Iterator[Hit]:
    """Equal `MetadataIndex` keys: torch's dict keeps the last of them, at the first one's place."""
    for part in run.checkpoint.parts:
        for item in part.stored.duplicates:
            at = f" at {list(item.offsets)}" if item.offsets else ""
            yield Hit(
                item.fqn,
                f"two storage items have its index{at}; torch reads the later one, and "
                f"{words.count(item.length, 'byte')} of the earlier are never read",
                part.located(part.stored.files[item.file]),
                item.offset,
            )


@rule("DCP113", WARNING, "a key and its object path disagree")
def other_path(run: Run) -> Iterator[Hit]:
    """Keys that are not their object path joined by dots, as `flatten_state_dict` makes them.

    torch/distributed/checkpoint/_nested_dict.py, the same from 2.0 to 2.15.
    """
    for part in run.checkpoint.parts:
        paths = part.stored.planner_data or {}
        odd = [f for f in part.stored.entries if f in paths and _joined(paths[f]) != f]
        if odd:
            more = f"; so it is with {len(odd) - 1:,} more" if len(odd) > 1 else ""
            yield Hit(
                odd[0],
                f"its object path is {list(paths[odd[0]])}, of which torch makes "
                f"{quote(_joined(paths[odd[0]]))}{more}",
                part.located(part.stored.metadata_file),
            )


def _joined(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


@rule("DCP110", WARNING, "a pickle refers to an unknown global", security=True)
def unknown_global(run: Run) -> Iterator[Hit]:
    """Code that torch imports, and may call, when it unpickles the entry."""
    users: dict[tuple[str, bool], list[tuple[Import, ItemReport]]] = {}
    for report in run.scan.reports:
        for used in report.globals:
            users.setdefault((used.path, used.runs), []).append((used, report))
    for (path, runs), uses in users.items():
        used, first = max(uses, key=lambda pair: pair[0].use) if runs else uses[0]
        more = f"; so do {len(uses) - 1:,} more entries" if len(uses) > 1 else ""
        does = "needs and trusts the code that defines it"
        lacking = lacks(path, run.target)
        if runs:
            does = f"runs code: {printable(path)}"
        elif lacking:
            does = f"fails: {lacking}"
        verb = "calls" if used.use >= VALUED else "refers to"
        yield Hit(
            first.fqn,
            f"its pickle {verb} {quote(path)}; loading this {does}{more}",
            first.file,
            first.offset,
            ERROR if runs or lacking else None,
        )
    run.scan.require_items()
