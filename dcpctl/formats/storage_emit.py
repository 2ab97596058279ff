"""`storage_data`: a `MetadataIndex` -> `_StorageInfo` item for each chunk and bytes entry.

Items stand by file and position, as torch lists them. The first item of a file spells its path; all
others refer to names that are spelled already, so that they can be written as columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpctl.formats.arrays import distinct
from dcpctl.formats.metadata_forms import MetadataForm
from dcpctl.formats.pickles.columns import (
    Bytes,
    number_column,
    number_columns,
    recall_column,
    repeated,
)
from dcpctl.formats.pickles.emit import BATCH, Emitter, integer, packed_tuple, recall
from dcpctl.formats.pickles.standins import Record, Size
from dcpctl.formats.records import Int64s, StoredCheckpoint, StoredTensor

#: Items that are made at once; bounds memory.
_SLAB = 64 * BATCH


@dataclass(slots=True)
class _Items:
    """Items of one form, as rows of integers: memo place of the FQN, number of the chunk in its
    tensor, file, byte offset, bytes, and the chunk's offsets.

    Attributes:
        dims: dimensions; None for bytes entries, whose index has neither number nor offsets.
        transforms: their stream transforms.
        tables: the rows of tensors with many chunks.
        rows: those of all others.
    """

    dims: int | None
    transforms: tuple[str, ...]
    tables: list[Int64s] = field(default_factory=list)
    rows: list[tuple[int, ...]] = field(default_factory=list)

    def table(self) -> Int64s:
        """(n, 5 + dims) all rows."""
        width = 5 + (self.dims or 0)
        loose = np.array(self.rows, dtype=np.int64).reshape(len(self.rows), width)
        return np.concatenate([loose, *self.tables])


_FQN, _INDEX, _FILE, _OFFSET, _LENGTH, _WHERE = range(6)
#: Tensors with fewer chunks are taken row by row.
_FEW = 16


def emit_storage(out: Emitter, stored: StoredCheckpoint, form: MetadataForm) -> None:
    """Write the items into the dict on the stack.

    Args:
        out: the pickle, in which every FQN of `stored.entries` is spelled already.
        stored: the checkpoint.
        form: names of the classes.
    """
    items = _collect(out, stored)
    if items:
        _StorageEmitter(out, stored, form, items).run()
    for orphan in stored.orphans:
        index: dict[str, Any] = {"fqn": orphan.fqn, "index": None}
        if orphan.offsets is not None:
            index |= {"index": 0, "offset": Size(orphan.offsets)}
        path = stored.files[orphan.file]
        info = {"relative_path": path, "offset": orphan.offset, "length": orphan.length}
        out.save(Record(f"{form.metadata}.MetadataIndex", index))
        out.save(Record(form.storage_info, info))
        out.write(b"s")


def _collect(out: Emitter, stored: StoredCheckpoint) -> list[_Items]:
    """Sort the items of all entries by their form."""
    found: dict[tuple[int | None, tuple[str, ...]], _Items] = {}
    for fqn, entry in stored.entries.items():
        name = out.memo_index(fqn)
        dims = entry.chunks.offsets.shape[1] if isinstance(entry, StoredTensor) else None
        items = found.get((dims, entry.transforms))
        if items is None:
            items = found[(dims, entry.transforms)] = _Items(dims, entry.transforms)
        if not isinstance(entry, StoredTensor):
            if entry.file >= 0:
                items.rows.append((name, 0, entry.file, entry.offset, entry.length))
            continue
        chunks = entry.chunks
        if len(chunks) < _FEW:
            items.rows += [
                (name, number, chunk.file, chunk.offset, chunk.length, *chunk.offsets)
                for number, chunk in enumerate(chunks)
                if chunk.file >= 0
            ]
            continue
        held = np.flatnonzero(chunks.file >= 0)
        table = np.empty((len(held), 5 + chunks.offsets.shape[1]), dtype=np.int64)
        table[:, _FQN] = name
        table[:, _INDEX] = held
        table[:, _FILE] = chunks.file[held]
        table[:, _OFFSET] = chunks.offset[held]
        table[:, _LENGTH] = chunks.length[held]
        table[:, _WHERE:] = chunks.offsets[held]
        items.tables.append(table)
    return [items for items in found.values() if items.rows or items.tables]


class _StorageEmitter:
    def __init__(
        self, out: Emitter, stored: StoredCheckpoint, form: MetadataForm, items: list[_Items]
    ) -> None:
        self.out = out
        self.files = stored.files
        self.form = form
        self.forms = items
        self.tables = [part.table() for part in items]
        self.paths = np.zeros(len(stored.files), dtype=np.int64)
        self._sort()

    def _sort(self) -> None:
        """Order all rows by file and position; find those that are written one by one."""
        counts = [len(table) for table in self.tables]
        kind = np.repeat(np.arange(len(counts)), counts)
        row = np.concatenate([np.arange(count) for count in counts])
        file = np.concatenate([table[:, _FILE] for table in self.tables])
        offset = np.concatenate([table[:, _OFFSET] for table in self.tables])
        order = np.lexsort((offset, file))
        order = order[self._distinct(kind[order], row[order], file[order], offset[order])]
        self.kind, self.row, file = kind[order], row[order], file[order]
        alone = np.diff(file, prepend=-1) != 0
        for number in range(len(counts)):
            of_kind = np.flatnonzero(self.kind == number)
            alone[of_kind[:1]] = True
        self.alone: NDArray[np.bool_] = alone

    def _distinct(
        self, kind: Int64s, row: Int64s, file: Int64s, offset: Int64s
    ) -> NDArray[np.bool_]:
        """False for a row that repeats the one before it: chunks of no elements may coincide."""
        keep = np.ones(len(kind), dtype=bool)
        same = (np.diff(kind) == 0) & (np.diff(file) == 0) & (np.diff(offset) == 0)
        for after in (np.flatnonzero(same) + 1).tolist():
            table = self.tables[kind[after]]
            one, two = table[row[after - 1]], table[row[after]]
            keep[after] = one[_FQN] != two[_FQN] or (one[_WHERE:] != two[_WHERE:]).any()
        return keep

    def run(self) -> None:
        for first in range(0, len(self.kind), _SLAB):
            self._slab(slice(first, first + _SLAB))

    def _slab(self, span: slice) -> None:
        kind, row, alone = self.kind[span], self.row[span], self.alone[span]
        # These come first, since they give the paths their places in the memo.
        single = {at: self._single(kind[at], row[at]) for at in np.flatnonzero(alone).tolist()}
        made: dict[int, memoryview] = {}
        for number in distinct(kind).tolist():
            rows = self._rows(number, row[kind == number])
            made[number] = memoryview(rows.reshape(-1).data)
        starts = np.diff(kind, prepend=-1) != 0
        starts |= alone
        starts[1:] |= alone[:-1]
        starts[::BATCH] = True
        begins = np.flatnonzero(starts)
        ends = np.append(begins[1:], len(kind))
        position = dict.fromkeys(made, 0)
        width = {number: len(rows) // int((kind == number).sum()) for number, rows in made.items()}
        pieces: list[bytes | memoryview] = []
        for begin, end, number in zip(
            begins.tolist(), ends.tolist(), kind[begins].tolist(), strict=True
        ):
            if begin % BATCH == 0:
                pieces.append(b"(")
            at, stop = position[number], position[number] + (end - begin) * width[number]
            pieces.append(single[begin] if begin in single else made[number][at:stop])
            position[number] = stop
            if end % BATCH == 0 or end == len(kind):
                pieces.append(b"u")
                self.out.write(b"".join(pieces))
                pieces.clear()

    def _single(self, number: int, row: int) -> bytes:
        """One item that spells what no item before it has spelled."""
        values = self.tables[number][row].tolist()
        path = self.files[values[_FILE]]
        where = [packed_tuple([integer(value) for value in values[_WHERE:]])]
        parts = self._item(self.forms[number], values, where, path, integer, recall)
        self.paths[values[_FILE]] = self.out.memo_index(path)
        return b"".join(parts)

    def _rows(self, number: int, rows: Int64s) -> Bytes:
        """(n, width) opcodes of n items, which spell nothing."""
        table = self.tables[number][rows]
        where = number_columns(table[:, _WHERE:])
        paths = self.paths[table[:, _FILE]]
        form = self.forms[number]
        return repeated(
            len(rows), self._item(form, table.T, where, paths, number_column, recall_column)
        )

    def _item(
        self,
        kind: _Items,
        values: Any,
        where: list[Any],
        path: str | Int64s,
        number: Callable[[Any], Any],
        get: Callable[[Any], Any],
    ) -> list[Any]:
        """Opcodes of one item or columns of many: `number` and `get` make either of values."""
        out = self.out
        parts = [out.named(f"{self.form.metadata}.MetadataIndex") + b")\x81}(", out.text("fqn")]
        parts += [get(values[_FQN]), out.text("index")]
        if kind.dims is None:
            parts.append(b"N")
        else:
            parts += [number(values[_INDEX]), out.text("offset"), out.named("torch.Size")]
            parts += [*where, b"\x85R"]
        parts += [b"ub", out.named(self.form.storage_info) + b")\x81}(", out.text("relative_path")]
        parts.append(out.text(path) if isinstance(path, str) else get(path))
        parts += [out.text("offset"), number(values[_OFFSET])]
        parts += [out.text("length"), number(values[_LENGTH])]
        if kind.transforms:
            names = [out.text(name) for name in ("transform_descriptors", *kind.transforms)]
            parts += [names[0], b"](", *names[1:], b"e"]
        return [*parts, b"ub"]
