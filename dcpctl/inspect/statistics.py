"""Statistics of tensors, streamed: one pass in blocks, memory bounded by the block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpctl.errors import UnknownForm, quote
from dcpctl.formats import dtypes
from dcpctl.model.entry import TensorEntry

#: Bytes of a block as stored; as float64 it may take eight times as many.
BLOCK_BYTES = 4 << 20

_NUMERIC = ("float", "complex", "int", "uint", "bool")

Number = float | int | complex


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of one tensor.

    Of floats, `min`, `max`, `mean` and `std` are over the finite numbers; of complex numbers
    `min` and `max` are of their magnitudes; a bool counts as 0 or 1. They are None where there
    is no number to take them of.

    Attributes:
        fqn: the tensor.
        dtype: its dtype.
        shape: its shape.
        count: elements read.
        min: the least.
        max: the greatest.
        mean: the mean, added up in float64.
        std: the population's standard deviation.
        zeros: elements equal to zero.
        nans: elements that are NaN, in either part if complex.
        infs: elements that are infinite and not NaN.
    """

    fqn: str
    dtype: str
    shape: tuple[int, ...]
    count: int
    min: float | int | None
    max: float | int | None
    mean: Number | None
    std: float | None
    zeros: int
    nans: int
    infs: int


def statistics(entry: TensorEntry, advance: Callable[[int], None] | None = None) -> Statistics:
    """Read all of a tensor once and return its statistics.

    Args:
        entry: of any numeric dtype.
        advance: called with the bytes of each block after it is done.

    Raises:
        UnknownForm: the dtype is packed or quantized, whose elements are no numbers by themselves.
        As `TensorEntry.blocks`.
    """
    kind = dtypes.info(entry.dtype).kind
    if kind not in _NUMERIC:
        raise UnknownForm(f"{quote(entry.fqn)}: {entry.dtype} is {kind}: no statistics")
    tally = _Tally(kind)
    for block in _blocks(entry):
        tally.add(block.reshape(-1))
        if advance is not None:
            advance(block.nbytes)
    return tally.result(entry)


def _blocks(entry: TensorEntry) -> Iterator[NDArray[Any]]:
    for block in entry.blocks(BLOCK_BYTES):
        if block.dtype.names:  # complex32 is a pair of float16
            pair = block["real"].astype(np.float32) + 1j * block["imag"].astype(np.float32)
            yield pair.astype(np.complex64)
        else:
            yield block


class _Tally:
    """Counts and moments so far; moments of blocks are joined as Chan et al. (1979) do."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.count = self.zeros = self.nans = self.infs = 0
        self.finite = 0
        self.low: float | int | None = None
        self.high: float | int | None = None
        self.mean: Number = 0.0
        self.squares = 0.0

    def add(self, block: NDArray[Any]) -> None:
        """Take in the elements of a flat block."""
        self.count += block.size
        if not block.size:
            return
        wide = self._widened(block)
        self.zeros += int(np.count_nonzero(wide == 0))
        if self.kind in ("float", "complex"):
            nan = np.isnan(wide)
            finite = np.isfinite(wide)
            nans = int(np.count_nonzero(nan))
            self.nans += nans
            self.infs += block.size - int(np.count_nonzero(finite)) - nans
            if not finite.all():
                wide = block = wide[finite]
        if not wide.size:
            return
        self._extremes(wide if self.kind in ("float", "complex") else block)
        self._moments(wide)

    def _widened(self, block: NDArray[Any]) -> NDArray[Any]:
        return block.astype(np.complex128 if self.kind == "complex" else np.float64)

    def _extremes(self, values: NDArray[Any]) -> None:
        """Integers keep all their digits, which float64 has not for 64 bits."""
        sized = np.abs(values) if self.kind == "complex" else values
        low, high = sized.min().item(), sized.max().item()
        if self.kind == "bool":
            low, high = int(low), int(high)
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)

    def _moments(self, values: NDArray[Any]) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            mean = values.mean().item()
            apart = values - mean
            squares = float(
                (apart.real**2 + apart.imag**2).sum()
                if self.kind == "complex"
                else np.dot(apart, apart)
            )
        total = self.finite + values.size
        delta = mean - self.mean
        self.mean += delta * (values.size / total)
        self.squares += squares + abs(delta) ** 2 * (self.finite * values.size / total)
        self.finite = total

    def result(self, entry: TensorEntry) -> Statistics:
        """The statistics of all that was added."""
        some = self.finite > 0
        return Statistics(
            fqn=entry.fqn,
            dtype=entry.dtype,
            shape=entry.shape,
            count=self.count,
            min=self.low,
            max=self.high,
            mean=self.mean if some else None,
            std=math.sqrt(self.squares / self.finite) if some else None,
            zeros=self.zeros,
            nans=self.nans,
            infs=self.infs,
        )
