"""`storage_data`: which bytes of which file hold a chunk, looked up by FQN and offsets."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from dcpctl import limits
from dcpctl.errors import MalformedMetadata, quote
from dcpctl.formats.pickles.standins import Record
from dcpctl.formats.records import Int32s, Int64s, Orphan

Transforms = tuple[str, ...]


class _Rows:
    """The storage items of one FQN: (n, d) offsets and (n,) columns."""

    __slots__ = ("file", "length", "offset", "offsets", "transforms", "used")

    def __init__(
        self, offsets: Int64s, file: Int32s, offset: Int64s, length: Int64s, transforms: Transforms
    ) -> None:
        self.offsets = offsets
        self.file = file
        self.offset = offset
        self.length = length
        self.transforms = transforms
        self.used = np.zeros(len(file), dtype=bool)


class StorageTable:
    """Collects `storage_data` items, one by one or in blocks, then answers for each entry."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        #: Relative paths, in the order in which the metadata first names them.
        self.files: list[str] = []
        self._file_ids: dict[str, int] = {}
        # Items decoded one by one, by FQN: (offsets or None, file, offset, length, transforms).
        self._loose: dict[str, list[tuple[Any, int, int, int, Transforms]]] = {}
        self._blocks: list[Any] = []
        self._tensors: dict[str, list[_Rows]] = {}
        self._bytes: dict[str, list[tuple[int, int, int, Transforms]]] = {}
        self._claimed: set[str] = set()

    def add(self, key: Any, value: Any) -> None:
        """Take one item of the `storage_data` dict.

        Raises:
            MalformedMetadata: the item is no `MetadataIndex` -> `_StorageInfo` pair.
        """
        if type(value).__name__ == "StorageBlock":
            self._blocks.append(value)
            return
        if not isinstance(key, Record) or not isinstance(value, Record):
            raise MalformedMetadata(
                f"{self.subject}: storage_data maps a {type(key).__name__} to a "
                f"{type(value).__name__}, expected MetadataIndex to _StorageInfo"
            )
        fqn = key.fields.get("fqn")
        path = value.fields.get("relative_path")
        if not isinstance(fqn, str) or not isinstance(path, str):
            raise MalformedMetadata(f"{self.subject}: a storage item without FQN or relative_path")
        offset, length = value.fields.get("offset"), value.fields.get("length")
        for number in (offset, length):
            if type(number) is not int or not -(1 << 63) <= number < 1 << 63:
                raise MalformedMetadata(
                    f"{self.subject}: storage item of {quote(fqn)}: offset and length are not "
                    "64-bit integers"
                )
        where = key.fields.get("offset")
        if where is not None and (
            not isinstance(where, (tuple, list))
            or len(where) > limits.TENSOR_DIMS
            or not all(type(n) is int and -(1 << 63) <= n < 1 << 63 for n in where)
        ):
            raise MalformedMetadata(f"{self.subject}: storage item of {quote(fqn)}: bad offsets")
        # 2.7 and later leave the field out unless an extension was used.
        transforms = value.fields.get("transform_descriptors") or ()
        if not all(isinstance(name, str) for name in transforms):
            raise MalformedMetadata(f"{self.subject}: storage item of {quote(fqn)}: bad transforms")
        self._loose.setdefault(fqn, []).append(
            (where, self._file_id(path), offset, length, tuple(transforms))  # type: ignore[arg-type]
        )

    def finish(self) -> None:
        """Sort what was added by FQN."""
        for fqn, items in self._loose.items():
            self._finish_loose(fqn, items)
        self._loose.clear()
        for block in self._blocks:
            self._finish_block(block)
        self._blocks.clear()

    def bytes_item(self, fqn: str) -> tuple[int, int, int, Transforms]:
        """The file id, offset, length and transforms of a bytes entry; file -1 if there is none."""
        found = self._bytes.get(fqn)
        self._claimed.add(fqn)
        return found[0] if found else (-1, 0, 0, ())

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
        transforms: Transforms = ()
        for rows in self._tensors.get(fqn, ()):
            if rows.offsets.shape[1] != offsets.shape[1]:
                continue
            chunk, item = _match(offsets, rows.offsets)
            file[chunk] = rows.file[item]
            offset[chunk] = rows.offset[item]
            length[chunk] = rows.length[item]
            rows.used[item] = True
            transforms = rows.transforms or transforms
        # 1.13 indexes a plain tensor, which has one chunk, without offsets.
        if count == 1 and file[0] < 0 and fqn in self._bytes:
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

    def _file_id(self, path: str) -> int:
        known = self._file_ids.get(path)
        if known is None:
            known = self._file_ids[path] = len(self.files)
            self.files.append(path)
        return known

    def _finish_loose(self, fqn: str, items: list[tuple[Any, int, int, int, Transforms]]) -> None:
        by_form: dict[tuple[int, Transforms], list[tuple[Any, int, int, int, Transforms]]] = {}
        for item in items:
            if item[0] is None:
                self._bytes.setdefault(fqn, []).append(item[1:])
            else:
                by_form.setdefault((len(item[0]), item[4]), []).append(item)
        for (dims, transforms), rows in by_form.items():
            count = len(rows)
            self._tensors.setdefault(fqn, []).append(
                _Rows(
                    np.array([row[0] for row in rows], dtype=np.int64).reshape(count, dims),
                    np.array([row[1] for row in rows], dtype=np.int32),
                    np.array([row[2] for row in rows], dtype=np.int64),
                    np.array([row[3] for row in rows], dtype=np.int64),
                    transforms,
                )
            )

    def _finish_block(self, block: Any) -> None:
        """Split a block of items in any order into its FQNs."""
        used, where = np.unique(block.path, return_inverse=True)
        ids = [self._file_id(block.names[name]) for name in used.tolist()]
        file = np.array(ids, dtype=np.int32)[where]
        order = np.argsort(block.fqn, kind="stable")
        names = block.fqn[order]
        bounds = np.flatnonzero(np.diff(names, prepend=-1))
        stops = np.append(bounds[1:], len(names))
        for first, stop in zip(bounds.tolist(), stops.tolist(), strict=True):
            rows = order[first:stop]
            fqn = block.names[int(names[first])]
            if block.offsets is None:
                self._bytes.setdefault(fqn, []).extend(
                    (int(file[r]), int(block.offset[r]), int(block.length[r]), block.transforms)
                    for r in rows.tolist()
                )
            else:
                self._tensors.setdefault(fqn, []).append(
                    _Rows(
                        block.offsets[rows],
                        file[rows],
                        block.offset[rows],
                        block.length[rows],
                        block.transforms,
                    )
                )


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
