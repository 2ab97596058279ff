"""All storage items of a checkpoint in one table, in the order in which they lie in the files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcpctl.formats.records import Int32s, Int64s
from dcpctl.model.checkpoint import Checkpoint, Part
from dcpctl.model.entry import TensorEntry

#: Rows of items that hold no chunk of an entry.
BYTES_ROW, EXTRA_ROW = -1, -2
_LARGEST = (1 << 63) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """N storage items, by file and offset, one column a field.

    Attributes:
        names: FQNs.
        name: (N,) index into `names`.
        row: (N,) row of the entry's chunk table; BYTES_ROW for a bytes entry, EXTRA_ROW for an
            item that is a further copy or belongs to no entry.
        file: (N,) index into `Checkpoint.files`.
        offset: (N,) first byte.
        length: (N,) bytes.
        stop: (N,) past-the-end byte; the largest 64-bit integer where that is more.
    """

    names: list[str]
    name: Int32s
    row: Int32s
    file: Int32s
    offset: Int64s
    length: Int64s
    stop: Int64s

    def __len__(self) -> int:
        return len(self.file)

    @property
    def nbytes(self) -> int:
        """Bytes of all items; as a float on the way, which hostile lengths do not overflow."""
        return int(self.length.clip(0).astype(np.float64).sum())

    def fqn(self, item: int) -> str:
        """The FQN of an item."""
        return self.names[int(self.name[item])]

    def of_file(self, file: int) -> slice:
        """The items of one file."""
        # Of the column's own type, or all of it would be converted.
        bounds = np.array([file, file + 1], dtype=self.file.dtype)
        low, high = np.searchsorted(self.file, bounds).tolist()
        return slice(low, high)


def part_of(checkpoint: Checkpoint, file: int) -> Part:
    """The part that shard file number `file` belongs to."""
    return [part for part in checkpoint.parts if part.first_file <= file][-1]


def collect_items(checkpoint: Checkpoint) -> Items:
    """Make the table of every storage item that lies in a file."""
    names: list[str] = []
    tables: list[Int64s] = []
    single: list[tuple[int, int, int, int, int]] = []
    for number, (fqn, entry) in enumerate(checkpoint.entries.items()):
        names.append(fqn)
        if isinstance(entry, TensorEntry):
            tables.append(_of_tensor(number, entry))
        elif entry.file >= 0:
            single.append((number, BYTES_ROW, entry.file, entry.offset, entry.length))
    for part in checkpoint.parts:
        for extra in (*part.stored.orphans, *part.stored.replicas):
            if extra.file >= 0:
                place = extra.file + part.first_file
                single.append((len(names), EXTRA_ROW, place, extra.offset, extra.length))
                names.append(extra.fqn)
    tables.append(np.array(single, dtype=np.int64).reshape(len(single), 5).T)
    name, row, file, offset, length = np.concatenate(tables, axis=1)
    order = np.lexsort((offset, file))
    stop = offset + np.minimum(length, _LARGEST - np.maximum(offset, 0))
    return Items(
        names,
        name[order].astype(np.int32),
        row[order].astype(np.int32),
        file[order].astype(np.int32),
        offset[order],
        length[order],
        stop[order],
    )


def _of_tensor(number: int, entry: TensorEntry) -> Int64s:
    """(5, n) columns of a tensor's items: entry, row, file, offset, length."""
    chunks = entry.chunks
    held = np.flatnonzero(chunks.file >= 0)
    table = np.empty((5, len(held)), dtype=np.int64)
    table[0], table[1] = number, held
    table[2], table[3], table[4] = chunks.file[held], chunks.offset[held], chunks.length[held]
    return table
