"""`storage_data`: which bytes of which file hold a chunk, looked up by FQN and offsets."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpctl import limits
from dcpctl.errors import MalformedMetadata, quote
from dcpctl.formats.pickles.blocks import StorageBlock
from dcpctl.formats.pickles.standins import Record, Size
from dcpctl.formats.records import Int32s, Int64s, Orphan

Transforms = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Storage items of one FQN: (n, d) offsets and (n,) columns."""

    offsets: Int64s
    file: Int32s
    offset: Int64s
    length: Int64s
    transforms: Transforms
    used: NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class _Items:
    """Items whose chunks have one number of dimensions; every field is a list of (n,) pieces."""

    fqn: list[Int64s] = field(default_factory=list)
    offsets: list[Int64s] = field(default_factory=list)
    file: list[Int64s] = field(default_factory=list)
    offset: list[Int64s] = field(default_factory=list)
    length: list[Int64s] = field(default_factory=list)
    transforms: list[Int64s] = field(default_factory=list)


class _Names:
    """Strings (or tuples of them) and their numbers, in the order of first use."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._ids: dict[Any, int] = {}

    def number(self, value: Any) -> int:
        known = self._ids.get(value)
        if known is None:
            known = self._ids[value] = len(self.values)
            self.values.append(value)
        return known

    def numbers(self, names: list[str], used: Int64s) -> Int64s:
        """Translate indices into `names` to numbers of this table."""
        unique, where = np.unique(used, return_inverse=True)
        ids = [self.number(names[index]) for index in unique.tolist()]
        return np.array(ids, dtype=np.int64)[where]


class StorageTable:
    """Collects `storage_data` items, one by one or in blocks, then answers for each entry."""

    def __init__(self, subject: str, *, oldest: bool = False) -> None:
        self.subject = subject
        self.oldest = oldest
        #: Items whose index a later one has too: torch's dict keeps the last.
        self.duplicates: list[Orphan] = []
        #: How many blocks were added.
        self.blocks = 0
        self._files = _Names()
        self._fqns = _Names()
        self._transforms = _Names()
        # Items decoded one by one: (FQN, file, offset, length, transforms, *chunk offsets).
        self._loose: dict[int, list[tuple[int, ...]]] = {}
        self._items: dict[int, _Items] = {}
        self._tensors: dict[str, list[_Rows]] = {}
        self._bytes: dict[str, list[tuple[int, int, int, Transforms]]] = {}
        self._claimed: set[str] = set()

    @property
    def files(self) -> list[str]:
        """Relative paths, in the order in which the metadata first names them."""
        return self._files.values

    def add(self, key: Any, value: Any) -> None:
        """Take one item of the `storage_data` dict.

        Raises:
            MalformedMetadata: the item is no `MetadataIndex` -> `_StorageInfo` pair.
        """
        if isinstance(value, StorageBlock):
            self._add_block(value)
            return
        names = [part.name if isinstance(part, Record) else "" for part in (key, value)]
        if names != ["MetadataIndex", "_StorageInfo"]:
            found = [
                part.type if isinstance(part, Record) else type(part).__name__
                for part in (key, value)
            ]
            raise MalformedMetadata(
                f"{self.subject}: storage_data maps a {found[0]} to a {found[1]}, "
                "expected MetadataIndex to _StorageInfo"
            )
        fqn = key.fields.get("fqn")
        path = value.fields.get("relative_path")
        if type(fqn) is not str or type(path) is not str:
            raise MalformedMetadata(f"{self.subject}: a storage item without FQN or relative_path")
        # 2.7 and later leave the field out unless an extension was used.
        transforms = value.fields.get("transform_descriptors") or ()
        if (
            type(transforms) not in (list, tuple)
            or len(transforms) > limits.TRANSFORMS
            or not all(type(name) is str for name in transforms)
        ):
            raise MalformedMetadata(f"{self.subject}: storage item of {quote(fqn)}: bad transforms")
        where = key.fields.get("offset")
        offset = _integer(value.fields.get("offset"))
        length = _integer(value.fields.get("length"))
        if offset is None or length is None:
            raise MalformedMetadata(
                f"{self.subject}: storage item of {quote(fqn)}: offset and length are not "
                "64-bit integers"
            )
        if where is not None and not _integers(where):
            raise MalformedMetadata(f"{self.subject}: storage item of {quote(fqn)}: bad offsets")
        file = self._files.number(path)
        if where is None:
            self._bytes.setdefault(fqn, []).append((file, offset, length, tuple(transforms)))
            return
        kind = self._transforms.number(tuple(transforms))
        row = (self._fqns.number(fqn), file, offset, length, kind, *where)
        self._loose.setdefault(len(where), []).append(row)

    def _add_block(self, block: StorageBlock) -> None:
        self.blocks += 1
        file = self._files.numbers(block.names, block.path)
        if block.offsets is None:
            rows = zip(
                block.fqn.tolist(),
                file.tolist(),
                block.offset.tolist(),
                block.length.tolist(),
                strict=True,
            )
            for name, *span in rows:
                self._bytes.setdefault(block.names[name], []).append((*span, block.transforms))
            return
        items = self._items.setdefault(block.offsets.shape[1], _Items())
        items.fqn.append(self._fqns.numbers(block.names, block.fqn))
        items.offsets.append(block.offsets)
        items.file.append(file)
        items.offset.append(block.offset)
        items.length.append(block.length)
        items.transforms.append(
            np.full(len(file), self._transforms.number(block.transforms), dtype=np.int64)
        )

    def finish(self) -> None:
        """Sort what was added by FQN."""
        for dims, rows in self._loose.items():
            table = np.array(rows, dtype=np.int64).reshape(len(rows), 5 + dims)
            items = self._items.setdefault(dims, _Items())
            columns = (items.fqn, items.file, items.offset, items.length, items.transforms)
            for number, column in enumerate(columns):
                column.append(table[:, number])
            items.offsets.append(table[:, 5:])
        self._loose.clear()
        for items in self._items.values():
            self._sort(items)
        self._items.clear()
        for fqn, places in self._bytes.items():
            self.duplicates += [Orphan(fqn, None, *place[:3]) for place in places[:-1]]
            del places[:-1]

    def _sort(self, items: _Items) -> None:
        transforms = np.concatenate(items.transforms)
        # One group for each FQN and, where a tensor's items differ in that, each transform.
        group = np.concatenate(items.fqn) * len(self._transforms.values) + transforms
        order = np.argsort(group, kind="stable")
        sorted_group = group[order]
        offsets = np.concatenate(items.offsets)[order]
        file = np.concatenate(items.file)[order].astype(np.int32)
        offset = np.concatenate(items.offset)[order]
        length = np.concatenate(items.length)[order]
        again = _repeated(sorted_group // len(self._transforms.values), offsets, order)
        if len(again):
            for row in again.tolist():
                name = self._fqns.values[int(sorted_group[row]) // len(self._transforms.values)]
                place = (int(file[row]), int(offset[row]), int(length[row]))
                self.duplicates.append(Orphan(name, tuple(offsets[row].tolist()), *place))
            columns = (sorted_group, offsets, file, offset, length, order)
            sorted_group, offsets, file, offset, length, order = (
                np.delete(column, again, axis=0) for column in columns
            )
        used = np.zeros(len(order), dtype=bool)
        bounds = np.flatnonzero(np.diff(sorted_group, prepend=-1))
        stops = np.append(bounds[1:], len(order))
        for first, stop in zip(bounds.tolist(), stops.tolist(), strict=True):
            fqn, kind = divmod(int(sorted_group[first]), len(self._transforms.values))
            rows = slice(first, stop)
            self._tensors.setdefault(self._fqns.values[fqn], []).append(
                _Rows(
                    offsets[rows],
                    file[rows],
                    offset[rows],
                    length[rows],
                    self._transforms.values[kind],
                    used[rows],
                )
            )

    def bytes_item(self, fqn: str) -> tuple[int, int, int, Transforms]:
        """The file id, offset, length and transforms of a bytes entry; file -1 if there is none."""
        found = self._bytes.get(fqn)
        self._claimed.add(fqn)
        return found[-1] if found else (-1, 0, 0, ())

    def chunk_items(self, fqn: str, offsets: Int64s) -> tuple[Int32s, Int64s, Int64s, Transforms]:
        """The storage items of a tensor's chunks.

        Args:
            fqn: the tensor.
            offsets: (n, d) offsets of its chunks.

        Returns:
            (n,) file ids (-1 where no item has those offsets), (n,) byte offsets, (n,) lengths,
            and the transforms of the items.
        """
        count = len(offsets)
        file = np.full(count, -1, dtype=np.int32)
        offset = np.zeros(count, dtype=np.int64)
        length = np.zeros(count, dtype=np.int64)
        kinds: dict[Transforms, None] = {}
        for rows in self._tensors.get(fqn, ()):
            if rows.offsets.shape[1] != offsets.shape[1]:
                continue
            chunk, item = _match(offsets, rows.offsets)
            file[chunk] = rows.file[item]
            offset[chunk] = rows.offset[item]
            length[chunk] = rows.length[item]
            rows.used[item] = True
            if len(item):
                kinds[rows.transforms] = None
        if len(kinds) > 1:
            raise MalformedMetadata(
                f"{self.subject}: chunks of {quote(fqn)} are stored with different transforms, "
                "which no release writes"
            )
        transforms = next(iter(kinds), ())
        # 1.13 indexes a plain tensor, which has one chunk, without offsets; later ones do not.
        if self.oldest and count == 1 and file[0] < 0 and fqn in self._bytes:
            found = self.bytes_item(fqn)
            file[0], offset[0], length[0], transforms = found
        return file, offset, length, transforms

    def orphans(self, entries: Collection[str]) -> list[Orphan]:
        """The items that no entry claimed."""
        left = [
            Orphan(fqn, None, file, offset, length)
            for fqn, items in self._bytes.items()
            for file, offset, length, _ in items[1 if fqn in self._claimed else 0 :]
        ]
        for fqn, parts in self._tensors.items():
            for rows in parts:
                left.extend(
                    Orphan(
                        fqn,
                        tuple(rows.offsets[row].tolist()),
                        int(rows.file[row]),
                        int(rows.offset[row]),
                        int(rows.length[row]),
                    )
                    for row in np.flatnonzero(~rows.used).tolist()
                )
        return left


def _integer(number: Any) -> int | None:
    return number if type(number) is int and -(1 << 63) <= number < 1 << 63 else None


def _integers(numbers: Any) -> bool:
    return (
        isinstance(numbers, Size)
        and len(numbers) <= limits.TENSOR_DIMS
        and all(_integer(number) is not None for number in numbers)
    )


def _repeated(fqn: Int64s, offsets: Int64s, order: Int64s) -> Int64s:
    """Rows whose FQN and offsets a row that was added later has too.

    Args:
        fqn: (n,) sorted.
        offsets: (n, d).
        order: (n,) when each was added.
    """
    same = fqn[1:] == fqn[:-1]
    rising = np.zeros(len(same), dtype=bool)
    equal = same.copy()
    for column in offsets.T:
        rising |= equal & (column[1:] > column[:-1])
        equal &= column[1:] == column[:-1]
    if (rising | ~same).all():
        return np.zeros(0, dtype=np.int64)
    by = np.lexsort((order, *offsets.T, fqn))
    twice = fqn[by][1:] == fqn[by][:-1]
    for column in offsets.T:
        twice &= column[by][1:] == column[by][:-1]
    again: Int64s = by[:-1][twice]
    return again


def _match(wanted: Int64s, stored: Int64s) -> tuple[Int64s, Int64s]:
    """Pair equal rows of two (n, d) tables: indices into the first and into the second."""
    if wanted.shape == stored.shape and np.array_equal(wanted, stored):
        every = np.arange(len(wanted))
        return every, every
    if wanted.shape[1] == 0:
        count = min(len(wanted), len(stored), 1)
        return np.arange(count), np.arange(count)
    first = np.lexsort(wanted.T[::-1])
    second = np.lexsort(stored.T[::-1])
    a, b = wanted[first], stored[second]
    if a.shape == b.shape and np.array_equal(a, b):
        return first, second
    rows = {tuple(row): index for index, row in enumerate(stored.tolist())}
    pairs = [
        (index, rows[tuple(row)]) for index, row in enumerate(wanted.tolist()) if tuple(row) in rows
    ]
    table = np.array(pairs, dtype=np.int64).reshape(len(pairs), 2)
    return table[:, 0], table[:, 1]
