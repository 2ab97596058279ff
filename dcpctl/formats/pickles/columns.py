"""Many records of one form as a table of bytes: constant opcodes, and a column for each number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpctl.formats.records import Int64s

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A number in each of n records.

    Attributes:
        opcode: what stands before its bytes.
        values: (n,) little-endian numbers of the width that the opcode takes.
    """

    opcode: bytes
    values: NDArray[Any]


def number_column(values: Int64s) -> Column:
    """(n,) integers, in the narrowest opcode that takes them all."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    if low >= 0 and high < 1 << 8:
        return Column(b"K", values.astype("<u1"))
    if low >= 0 and high < 1 << 16:
        return Column(b"M", values.astype("<u2"))
    if low >= -(1 << 31) and high < 1 << 31:
        return Column(b"J", values.astype("<i4"))
    return Column(b"\x8a\x08", values.astype("<i8"))


def recall_column(indices: Int64s) -> Column:
    """(n,) places in the memo, whose entries are pushed."""
    if len(indices) and int(indices.max()) < 256:
        return Column(b"h", indices.astype("<u1"))
    return Column(b"j", indices.astype("<u4"))


def number_columns(table: Int64s) -> list[bytes | Column]:
    """(n, d) integers as n tuples of d."""
    dims = table.shape[1]
    columns: list[bytes | Column] = [number_column(table[:, dim]) for dim in range(dims)]
    if dims == 0:
        return [b")"]
    if dims <= 3:
        return [*columns, b"\x85\x86\x87"[dims - 1 : dims]]
    return [b"(", *columns, b"t"]


def repeated(count: int, parts: Sequence[bytes | Column]) -> Bytes:
    """(count, width) bytes: a row for each record, in which only the columns differ."""
    spans: list[tuple[Column, int]] = []
    template = bytearray()
    for part in parts:
        if isinstance(part, Column):
            template += part.opcode
            spans.append((part, len(template)))
            template += bytes(part.values.itemsize)
        else:
            template += part
    rows = np.empty((count, len(template)), dtype=np.uint8)
    rows[:] = np.frombuffer(bytes(template), dtype=np.uint8)
    for column, start in spans:
        width = column.values.itemsize
        raw = np.ascontiguousarray(column.values).view(np.uint8).reshape(count, width)
        rows[:, start : start + width] = raw
    return rows
