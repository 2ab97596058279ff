"""What a checkpoint is to become: entries that say which bytes they are made of.

A surgery is a function from draft to draft. It reads no tensor and writes nothing; the writer turns
the last draft into a directory. An entry that no surgery touched keeps its storage items as they
stand, so any number of edits costs one pass over what really changes.

A draft answers what a checkpoint answers (`entries`, `planner_data`; `shape`, `dtype`, `value` of
an entry), so that whatever looks at a checkpoint can look at the result before it is made.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from dcpctl.formats import dtypes
from dcpctl.formats.records import Int64s
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.entry import BytesEntry, TensorEntry
from dcpctl.model.source import TensorSource, ValueSource
from dcpctl.model.values import type_name

Path = tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The chunks that a tensor is to have.

    Attributes:
        offsets: (n, d) first element of each chunk.
        sizes: (n, d) elements of each chunk.
        rank: (n,) the rank whose file holds it.
    """

    offsets: Int64s
    sizes: Int64s
    rank: Int64s

    def __len__(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True, slots=True, eq=False)
class TensorDraft:
    """A tensor entry of the result.

    Attributes:
        fqn: its key in the result.
        shape: elements per dimension; of `source`, where that is an entry.
        dtype: dtype in the result; one that differs from the source's is a cast.
        source: where its numbers come from.
        grid: the chunks of the result; None keeps the source's.
        rank: the rank whose file gets a filled tensor without a grid.
    """

    fqn: str
    shape: tuple[int, ...]
    dtype: str
    source: TensorSource
    grid: Grid | None = None
    rank: int = 0

    kind = "tensor"

    @property
    def numel(self) -> int:
        """Elements of the whole tensor."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor's numbers."""
        return self.numel * dtypes.itemsize(self.dtype)

    @property
    def untouched(self) -> bool:
        """Whether its storage items reach the result as they stand."""
        entry = self.source.entry
        return (
            entry is not None
            and self.grid is None
            and self.dtype == entry.dtype
            and entry.stored.encoding == "torch"
        )

    @property
    def reads(self) -> tuple[TensorEntry, ...]:
        """The entries that its numbers are made of."""
        entry = self.source.entry
        if entry is not None:
            return (entry,)
        zeros = (0,) * len(self.shape)
        return tuple(entry for entry, _, _ in self.source.boxes(zeros, self.shape))

    def numpy(self) -> NDArray[Any]:
        """Read the tensor as it was before any cast."""
        zeros = (0,) * len(self.shape)
        return self.source.read(zeros, self.shape, self.dtype, TensorEntry.read_box)


@dataclass(frozen=True, slots=True, eq=False)
class BytesDraft:
    """A bytes entry of the result.

    Attributes:
        fqn: its key in the result.
        source: the entry whose item it keeps, or its new value.
        rank: the rank whose file gets it; None leaves it where it is (a new one: rank 0).
    """

    fqn: str
    source: ValueSource
    rank: int | None = None

    kind = "bytes"

    @property
    def value(self) -> Any:
        """The decoded object."""
        return self.source.value

    @property
    def reads(self) -> tuple[BytesEntry, ...]:
        """The entry that it is; none where its value is new."""
        return () if self.source.entry is None else (self.source.entry,)

    @property
    def type(self) -> str:
        """The object's type as `module.Class`."""
        return type_name(self.source.value)

    @property
    def untouched(self) -> bool:
        """Whether its storage item reaches the result as it stands."""
        entry = self.source.entry
        return entry is not None and entry.stored.encoding == "torch"


EntryDraft = TensorDraft | BytesDraft


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A checkpoint to be written.

    Attributes:
        sources: the checkpoints that its bytes come from; they stay open until it is written.
        entries: FQN -> entry, in the order in which the metadata will name them.
        planner_data: FQN -> object path, or None for the form of 1.13.
        world_size: number of rank files, where a surgery has laid all entries out anew; None keeps
            the source's files.
        form: the torch release whose on-disk form is written, such as `2.2`; None writes the form
            that every release from 2.4 to 2.15 reads.
        fields: further fields of the metadata (`version`, `storage_meta`, what frameworks add);
            None keeps those of the first source.
        tidy: no byte that belongs to no entry gets into the result; else a file is taken over whole
            though a little of it is of no more use.
        dcp: the result is a DCP checkpoint, though the source is of another form that could stay.
        joined: all entries go into one directory, whatever parts the sources are made of.
        beside: directories whose files beside the shards are carried over; None takes those of the
            sources.
        only: names of the parts that the entries are of, where the draft is some parts of a save;
            empty for all of them.
        members: drafts of the parts of a save, in place of the entries, which stand for all.
        rewritten: metadata are written anew also where no entry of theirs differs.
        optimizer_of: optimizer root to the root of its model, where a person said so.
    """

    sources: tuple[Checkpoint, ...]
    entries: Mapping[str, EntryDraft]
    planner_data: Mapping[str, Path] | None
    world_size: int | None = None
    form: str | None = None
    fields: Mapping[str, Any] | None = None
    tidy: bool = False
    dcp: bool = False
    joined: bool = False
    beside: tuple[FilePath, ...] | None = None
    rewritten: bool = False
    only: tuple[str, ...] = ()
    members: tuple[Draft, ...] = ()
    optimizer_of: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Draft:
        """The draft that is the checkpoint itself."""
        entries: dict[str, EntryDraft] = {}
        for fqn, entry in checkpoint.entries.items():
            if isinstance(entry, TensorEntry):
                entries[fqn] = TensorDraft(fqn, entry.shape, entry.dtype, entry)
            else:
                entries[fqn] = BytesDraft(fqn, entry)
        return cls((checkpoint,), MappingProxyType(entries), checkpoint.planner_data)

    def with_entries(
        self, entries: Iterable[EntryDraft], planner_data: Mapping[str, Path] | None
    ) -> Draft:
        """The same draft with other entries and object paths."""
        kept = MappingProxyType({entry.fqn: entry for entry in entries})
        return dataclasses.replace(self, entries=kept, planner_data=planner_data)
