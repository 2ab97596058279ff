"""Which entries of a draft stay in their files, and which items are new and in whose file."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from dcpctl.errors import Refused, quote
from dcpctl.formats.metadata_forms import metadata_form
from dcpctl.formats.torch_zip_emit import tensor_item, value_item
from dcpctl.model.draft import BytesDraft, Draft, EntryDraft, Grid, TensorDraft
from dcpctl.model.entry import BytesEntry, TensorEntry
from dcpctl.writing.casting import check_cast
from dcpctl.writing.entries import CopyMaker, Made, TensorMaker
from dcpctl.writing.places import NewFile, NewItem, OutputFiles, Places
from dcpctl.writing.reuse import Staying
from dcpctl.writing.segments import NewBytes, NewTensor, Segment
from dcpctl.writing.sources import Sources


@dataclass(slots=True, eq=False)
class Layout:
    """A draft, sorted out.

    Attributes:
        made: FQN -> entry of the result.
        staying: entries that stay in their files.
        new: rank -> its new file.
        out: the output files so far.
    """

    made: dict[str, Made] = field(default_factory=dict)
    staying: list[Staying] = field(default_factory=list)
    new: dict[int, NewFile] = field(default_factory=lambda: defaultdict(NewFile))
    out: OutputFiles = field(default_factory=OutputFiles)

    def join_new(self) -> None:
        """Put all new items into one file of rank 0."""
        joined = NewFile()
        for rank in sorted(self.new):
            joined.values += self.new[rank].values
            joined.tensors += self.new[rank].tensors
        self.new = {0: joined} if self.new else {}


def lay_out(draft: Draft, sources: Sources, *, in_place: bool) -> Layout:
    """Sort a draft's entries.

    Raises:
        Refused: in place, an entry would have to be rewritten.
    """
    sorter = _Sorter(draft, sources)
    for entry in draft.entries.values():
        if isinstance(entry, TensorDraft):
            if in_place and not entry.untouched and entry.source.entry is not None:
                raise Refused(
                    f"{quote(entry.fqn)} would be rewritten; in place, no tensor is",
                    hint="write a new directory instead",
                )
            sorter.tensor(entry)
        else:
            sorter.value(entry)
    return sorter.layout


class _Sorter:
    def __init__(self, draft: Draft, sources: Sources) -> None:
        self.sources = sources
        self.world_size = draft.world_size
        self.keeps_transforms = metadata_form(draft.form).transforms
        self.layout = Layout()
        self.used: set[int] = set()

    def first_use(self, entry: TensorEntry | BytesEntry) -> bool:
        """Whether the entry's items may stay: a second use of them is a copy of its own."""
        if self.world_size is not None or id(entry) in self.used:
            return False
        self.used.add(id(entry))
        return True

    def stands(self, draft: EntryDraft) -> bool:
        """Whether an entry's items can be in the result as they stand."""
        entry = draft.source.entry
        if entry is None or not draft.untouched:
            return False
        return self.keeps_transforms or not entry.stored.transforms

    def rank_of(self, entry: TensorEntry | BytesEntry, file: int) -> int:
        """The rank of an entry's file, as far as the result has that rank."""
        shard = self.sources.files[file + self.sources.first_file(entry)].shard
        rank = shard.rank or 0
        return rank if self.world_size is None or rank < self.world_size else 0

    # -- bytes entries ----------------------------------------------------------------------------

    def value(self, draft: BytesDraft) -> None:
        places = Places.of(1)
        empty = np.zeros((1, 0), dtype=np.int64)
        made = self.layout.made[draft.fqn] = Made(draft, places, empty, empty)
        source = draft.source.entry
        if source is None:
            self.new_value(draft, places, draft.rank or 0)
            return
        rank = self.rank_of(source, source.file) if source.file >= 0 else 0
        moves = draft.rank is not None and draft.rank != rank
        if self.stands(draft):
            made.transforms = source.stored.transforms
            if not moves and self.first_use(source):
                self.layout.staying.append(Staying(source, draft.fqn, places))
                return
            item = self.copy_of(source, draft.fqn, source.file, source.offset, source.length)
            new = NewItem(places, 0, source.length, item)
            self.layout.new[rank if draft.rank is None else draft.rank].values.append(new)
        elif moves or self.world_size is not None:
            self.new_value(draft, places, rank if draft.rank is None else draft.rank)
        else:
            data = value_item(draft.value)
            self.layout.staying.append(
                Staying(
                    source,
                    draft.fqn,
                    places,
                    np.array([len(data)]),
                    lambda row, at: NewBytes(at, data, draft.fqn),
                )
            )

    def new_value(self, draft: BytesDraft, places: Places, rank: int) -> None:
        data = value_item(draft.value)
        item = NewItem(places, 0, len(data), lambda at: NewBytes(at, data, draft.fqn))
        self.layout.new[rank].values.append(item)

    def copy_of(
        self, entry: TensorEntry | BytesEntry, subject: str, file: int, offset: int, length: int
    ) -> CopyMaker:
        number = file + self.sources.first_file(entry)
        return CopyMaker(number, offset, length, entry.stored, subject)

    # -- tensors ----------------------------------------------------------------------------------

    def tensor(self, draft: TensorDraft) -> None:
        source, grid, dtype = draft.source.entry, draft.grid, draft.source.dtype
        if dtype is not None and draft.dtype != dtype:
            check_cast(dtype, draft.dtype, quote(draft.fqn))
        if source is None:
            self.gridded(draft, grid or _one_chunk(draft), None)
        elif grid is not None:
            self.gridded(draft, grid, source)
        elif self.world_size is not None or (self.stands(draft) and not self.first_use(source)):
            self.gridded(draft, self.own_grid(source), source)
        else:
            self.staying_tensor(draft, source)

    def staying_tensor(self, draft: TensorDraft, source: TensorEntry) -> None:
        chunks = source.chunks
        places = Places.of(len(chunks))
        made = Made(draft, places, chunks.offsets, chunks.sizes)
        self.layout.made[draft.fqn] = made
        stay = Staying(source, draft.fqn, places)
        self.layout.staying.append(stay)
        if self.stands(draft):
            made.transforms = source.stored.transforms
            return
        sizes = chunks.sizes.tolist()
        stay.lengths = np.array(
            [tensor_item(draft.dtype, tuple(size)).total_bytes for size in sizes], dtype=np.int64
        )
        lengths = stay.lengths

        def segment(row: int, at: int) -> Segment:
            starts = tuple(chunks.offsets[row].tolist())
            return NewTensor(
                at, int(lengths[row]), source, draft.dtype, starts, tuple(sizes[row]), draft.fqn
            )

        stay.segment = segment

    def gridded(self, draft: TensorDraft, grid: Grid, source: TensorEntry | None) -> None:
        if source is not None:
            source.check_size()
        places = Places.of(len(grid))
        made = Made(draft, places, grid.offsets, grid.sizes)
        self.layout.made[draft.fqn] = made
        same = _same_chunks(draft, source)
        columns = (grid.offsets.tolist(), grid.sizes.tolist(), grid.rank.tolist())
        for row, (offsets, sizes, rank) in enumerate(zip(*columns, strict=True)):
            box = (tuple(offsets), tuple(sizes))
            known = same.get(box) if source is not None else None
            if known is not None and source is not None:
                chunk = source.chunks[known]
                copy = self.copy_of(source, draft.fqn, chunk.file, chunk.offset, chunk.length)
                item = NewItem(places, row, chunk.length, copy)
            else:
                length = tensor_item(draft.dtype, box[1]).total_bytes
                item = NewItem(
                    places,
                    row,
                    length,
                    TensorMaker(length, source or draft.source, draft.dtype, *box, draft.fqn),
                )
            self.layout.new[rank].tensors.append(item)

    def own_grid(self, source: TensorEntry) -> Grid:
        """The source's chunks, each once, as a grid."""
        chunks = source.chunks
        once: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        for row, chunk in enumerate(chunks):
            once.setdefault((chunk.offsets, chunk.sizes), row)
        rows = list(once.values())
        rank = [self.rank_of(source, int(chunks.file[row])) for row in rows]
        return Grid(chunks.offsets[rows], chunks.sizes[rows], np.array(rank, dtype=np.int64))


def _one_chunk(draft: TensorDraft) -> Grid:
    zeros = np.zeros((1, len(draft.shape)), dtype=np.int64)
    sizes = np.array([draft.shape], dtype=np.int64).reshape(1, len(draft.shape))
    return Grid(zeros, sizes, np.array([draft.rank], dtype=np.int64))


def _same_chunks(
    draft: TensorDraft, source: TensorEntry | None
) -> dict[tuple[tuple[int, ...], tuple[int, ...]], int]:
    """The source's chunks whose items can be copied as they stand, by their box."""
    if source is None or draft.dtype != source.dtype:
        return {}
    if source.stored.encoding != "torch" or source.stored.transforms:
        return {}
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    for row, chunk in enumerate(source.chunks):
        if chunk.file >= 0:
            found.setdefault((chunk.offsets, chunk.sizes), row)
    return found
