"""Items that stay in their file: which files are taken over whole, and which are written anew.

Columnar, since a checkpoint may have a million items and an edit that touches none of them must not
look at each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dcpctl.errors import MissingFile, quote
from dcpctl.formats.records import Int64s
from dcpctl.model.entry import BytesEntry, TensorEntry
from dcpctl.writing.names import Names
from dcpctl.writing.places import OutputFiles, Places
from dcpctl.writing.segments import CopyItem, Segment
from dcpctl.writing.sources import Sources

#: A file is taken over whole while no more than this share of it is of no more use: a value that
#: was replaced stays behind then, rather than gigabytes being written to leave it out.
DEAD_SHARE = 1 / 64


@dataclass(slots=True, eq=False)
class Staying:
    """A source's entry whose items stay where they are, as they stand or changed.

    Attributes:
        entry: the source's entry.
        subject: its FQN in the result.
        places: to be filled.
        lengths: (n,) bytes of the changed items; None if they stay as they stand.
        segment: makes a changed item's segment from its row and first byte.
    """

    entry: TensorEntry | BytesEntry
    subject: str
    places: Places
    lengths: Int64s | None = None
    segment: Callable[[int, int], Segment] | None = None


@dataclass(slots=True, eq=False)
class _Slots:
    """The items of all staying entries, by file and offset."""

    owner: Int64s
    row: Int64s
    file: Int64s
    offset: Int64s
    length: Int64s
    changed: NDArray[np.bool_]
    fresh: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    at: Int64s = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class _Standing(Sequence[Segment]):
    """The items of a file that is taken over whole, made when they are looked at."""

    def __init__(self, slots: _Slots, rows: Int64s, staying: Sequence[Staying]) -> None:
        self._slots, self._rows, self._staying = slots, rows, staying

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Segment:  # type: ignore[override]
        slots, number = self._slots, int(self._rows[index])
        owner = self._staying[int(slots.owner[number])]
        offset = int(slots.offset[number])
        return _copy(slots, number, owner, offset)


def place_kept(
    staying: Sequence[Staying],
    sources: Sources,
    names: Names,
    out: OutputFiles,
    *,
    taken_over: Collection[int] = (),
    dead_share: float = DEAD_SHARE,
) -> None:
    """Place the items that stay in their file; files in which nothing stays are left out.

    Args:
        staying: the entries; their places are filled.
        sources: of the draft.
        names: gives the files' names.
        out: gets the files.
        taken_over: numbers of files that stay as they are, also where nothing in them does (in
            place).
        dead_share: the most of a file that may be of no more use, if it is to be taken over whole.

    Raises:
        MissingFile: a chunk has no storage item, or a file is not there.
        TruncatedFile: a file is shorter than described.
    """
    slots = _collect(staying, sources)
    whole = _whole_files(slots, sources, dead_share)
    whole[list(taken_over)] = True
    _lay_out(slots)
    place = np.searchsorted(slots.file, np.arange(sources.shards + 1))
    numbers = np.full(sources.shards, -1, dtype=np.int64)
    at = np.where(whole[slots.file], slots.offset, slots.at) if len(slots.file) else slots.at
    for number, file in enumerate(sources.files[: sources.shards]):
        rows = np.arange(place[number], place[number + 1])
        if not len(rows) and number not in taken_over:
            continue
        fresh = rows[slots.fresh[rows]]
        size = sources.check_whole(number)
        if whole[number]:
            name = file.name if number in taken_over else names.keep(file.name, file.shard.rank)
            numbers[number] = out.add(name, size, file.path, number)
            segments: Sequence[Segment] = _Standing(slots, fresh, staying)
        else:
            size = int(slots.length[fresh].sum())
            name = names.keep(file.name, file.shard.rank)
            numbers[number] = out.add(name, size, None, number)
            segments = [_segment(slots, row, staying) for row in fresh.tolist()]
        made = out.files[numbers[number]]
        out.files[numbers[number]] = dataclasses.replace(made, segments=segments)
    _scatter(slots, staying, numbers, at)


def _collect(staying: Sequence[Staying], sources: Sources) -> _Slots:
    parts: list[tuple[Int64s, ...]] = []
    for owner, stay in enumerate(staying):
        entry, first = stay.entry, sources.first_file(stay.entry)
        if isinstance(entry, TensorEntry):
            chunks = entry.chunks
            held = np.flatnonzero(chunks.file >= 0)
            empty = (chunks.sizes == 0).any(axis=1)
            if len(held) < len(chunks) and not empty[chunks.file < 0].all():
                raise MissingFile(f"{quote(entry.fqn)}: no storage item holds one of its chunks")
            file, offset = chunks.file[held].astype(np.int64) + first, chunks.offset[held]
            length = chunks.length[held] if stay.lengths is None else stay.lengths[held]
        else:
            if entry.file < 0:
                raise MissingFile(f"{quote(entry.fqn)}: no storage item holds it")
            held = np.zeros(1, dtype=np.int64)
            file, offset = np.array([entry.file + first]), np.array([entry.offset])
            length = np.array([entry.length]) if stay.lengths is None else stay.lengths
        changed = np.full(len(held), stay.lengths is not None)
        parts.append((np.full(len(held), owner), held, file, offset, length, changed))
    if not parts:
        parts.append((*(np.zeros(0, dtype=np.int64) for _ in range(6)),))
    owner_, row, file, offset, length, changed = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    order = np.lexsort((row, owner_ * changed, changed, length, offset, file))
    return _Slots(
        owner_[order], row[order], file[order], offset[order], length[order], changed[order] != 0
    )


def _lay_out(slots: _Slots) -> None:
    """Mark the first slot of each item, and give each its place in a file written anew."""
    count = len(slots.file)
    fresh = np.ones(count, dtype=bool)
    if count:
        same = np.ones(count - 1, dtype=bool)
        key = slots.owner * slots.changed
        for column in (slots.file, slots.offset, slots.length, slots.changed, key):
            same &= column[1:] == column[:-1]
        fresh[1:] = ~same
    counted = np.where(fresh, slots.length, 0)
    behind = np.cumsum(counted)
    starts = np.searchsorted(slots.file, slots.file)
    before = np.concatenate([np.zeros(1, dtype=np.int64), behind])[starts]
    slots.fresh = fresh
    # What repeats the item before it lies where that one lies: both have the same end.
    slots.at = behind - before - slots.length


def _whole_files(slots: _Slots, sources: Sources, dead_share: float) -> NDArray[np.bool_]:
    """Which files are taken over whole: nothing in them changed, and hardly anything is dead."""
    count = sources.shards
    changed = np.bincount(slots.file[slots.changed], minlength=count) > 0
    whole = np.zeros(count, dtype=bool)
    starts = np.searchsorted(slots.file, np.arange(count + 1))
    for number, file in enumerate(sources.files[:count]):
        rows = slice(starts[number], starts[number + 1])
        if changed[number] or rows.start == rows.stop:
            continue
        live = _covered(slots.offset[rows], slots.length[rows])
        size = file.shard.size or 0
        whole[number] = size - live <= size * dead_share
    return whole


def _covered(offset: Int64s, length: Int64s) -> int:
    """Bytes that the items, sorted by offset, cover together."""
    stop = offset + length
    reach = np.maximum.accumulate(stop)
    before = np.concatenate([offset[:1], reach[:-1]])
    return int(np.maximum(stop - np.maximum(before, offset), 0).sum())


def _segment(slots: _Slots, number: int, staying: Sequence[Staying]) -> Segment:
    stay = staying[int(slots.owner[number])]
    at = int(slots.at[number])
    if stay.segment is not None:
        return stay.segment(int(slots.row[number]), at)
    return _copy(slots, number, stay, at)


def _copy(slots: _Slots, number: int, stay: Staying, at: int) -> CopyItem:
    stored = stay.entry.stored
    return CopyItem(
        at,
        int(slots.length[number]),
        int(slots.file[number]),
        int(slots.offset[number]),
        stored.encoding,
        stored.transforms,
        stay.subject,
    )


def _scatter(slots: _Slots, staying: Sequence[Staying], numbers: Int64s, at: Int64s) -> None:
    order = np.argsort(slots.owner, kind="stable")
    bounds = np.searchsorted(slots.owner[order], np.arange(len(staying) + 1)).tolist()
    for owner, stay in enumerate(staying):
        mine = order[bounds[owner] : bounds[owner + 1]]
        rows = slots.row[mine]
        stay.places.file[rows] = numbers[slots.file[mine]]
        stay.places.offset[rows] = at[mine]
        stay.places.length[rows] = slots.length[mine]
