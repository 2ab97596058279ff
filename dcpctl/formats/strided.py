"""Boxes of a strided array in a file: which byte ranges to read, and how to lay them out.

Neighbouring ranges are read together where the gap between them costs less than a call of its own,
and at most `BLOCK_BYTES` of the file are held beside the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpctl.errors import LimitExceeded
from dcpctl.storage.base import Storage

#: Gaps up to this size are read and thrown away: about what memory copies during one system call.
GAP_BYTES = 64 << 10
#: Most bytes of a file read at once where the result is not contiguous in it.
BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class StridedBytes:
    """An array as it lies in a file.

    Attributes:
        storage: where the file lies.
        file: its name.
        base: byte offset of the element at index 0 in every dimension.
        dtype: NumPy dtype of the elements.
        strides: bytes between neighbours, per dimension; none negative.
    """

    storage: Storage
    file: str
    base: int
    dtype: np.dtype[Any]
    strides: tuple[int, ...]

    def read(self, starts: Sequence[int], stops: Sequence[int]) -> NDArray[Any]:
        """Return the box [starts, stops) as a new contiguous array of shape stops - starts.

        The caller has seen that the box lies inside the array and the array inside the file.

        Raises:
            LimitExceeded: NumPy has no array of that shape.
            As `Storage.read`.
        """
        sizes = [stop - start for start, stop in zip(starts, stops, strict=True)]
        try:
            out = np.empty(sizes, dtype=self.dtype)
        except ValueError:  # of a tensor without elements, whose other dimensions are of any size
            raise LimitExceeded(f"NumPy has no array of the shape {sizes}") from None
        if not out.size:
            return out
        first = self.base + sum(
            start * stride for start, stride in zip(starts, self.strides, strict=True)
        )
        # From the widest stride to the narrowest, so that every level is a run in the file.
        order = sorted(
            (dim for dim, size in enumerate(sizes) if size > 1), key=lambda dim: -self.strides[dim]
        )
        kept = sorted(order)
        squeezed = out.squeeze(tuple(dim for dim, size in enumerate(sizes) if size == 1))
        view = squeezed.transpose([kept.index(dim) for dim in order])
        self._fill(view, tuple(self.strides[dim] for dim in order), first)
        return out

    def _fill(self, view: NDArray[Any], strides: tuple[int, ...], first: int) -> None:
        """Fill `view`, whose element at index 0 lies at byte `first`, widest stride first."""
        if view.flags.c_contiguous and view.strides == strides:
            self.storage.read_into(self.file, first, view.reshape(-1).view(np.uint8).data)
            return
        rows = self._rows_at_once(view.shape, strides)
        for row in range(0, view.shape[0], rows):
            start = first + row * strides[0]
            if rows == 1:
                self._fill(view[row, ...], strides[1:], start)
                continue
            part = view[row : row + rows]
            span = self._span(part.shape, strides)
            data = self.storage.read(self.file, start, span)
            part[...] = np.ndarray(part.shape, self.dtype, data, strides=strides)

    def _rows_at_once(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
        """Return how many indices of the first dimension to read with one call."""
        for level, stride in enumerate(strides):
            inner = self._span(shape[level + 1 :], strides[level + 1 :])
            if stride - inner > GAP_BYTES:
                return 1
        inner = self._span(shape[1:], strides[1:])
        if strides[0] == 0:
            return shape[0]
        return max(1, 1 + (BLOCK_BYTES - inner) // strides[0])

    def _span(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
        """Return the bytes from the first to behind the last element."""
        steps = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        return self.dtype.itemsize + steps


def row_major(shape: Sequence[int], width: int) -> tuple[int, ...]:
    """Bytes between neighbours of a contiguous array of `width`-byte elements, per dimension."""
    strides = []
    for size in reversed(shape):
        strides.append(width)
        width *= size
    return tuple(reversed(strides))


def in_order(shape: Sequence[int], strides: Sequence[int], width: int) -> bool:
    """Whether the numbers lie in row-major order without gaps; the stride of a 1 is no matter."""
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != width:
            return False
        width *= size
    return True
