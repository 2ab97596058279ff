"""How far two arrays of numbers are apart, added up block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpctl.formats import dtypes

#: Elements taken at once: as float64 they stay in the processor's cache.
STEP = 32 << 10
#: OpenBLAS shares products of 10,000 elements and more over threads of its own, which wait for one
#: another without sleeping: fatal where ours use the processors already.
_SERIAL = 8 << 10

_Floats = NDArray[np.float64]


@dataclass(slots=True)
class Sums:
    """What is known of the elements seen so far.

    Attributes:
        unequal: elements that are not equal. NaN equals NaN of the same bits (of any bits where the
            dtypes differ), and an infinity itself.
        nonfinite: of these, the elements that are NaN or infinite on one side or both. They count
            in none of the fields below.
        max_abs: largest |a - b|.
        worst: number of the element that has it; -1 if there is none.
        square: sum of |a - b|^2.
        square_a: sum of |a|^2.
        square_b: sum of |b|^2.
        product: sum of a * b (of complex numbers the real part of a * conj(b)).
    """

    unequal: int = 0
    nonfinite: int = 0
    max_abs: float = 0.0
    worst: int = -1
    square: float = 0.0
    square_a: float = 0.0
    square_b: float = 0.0
    product: float = 0.0

    def merge(self, other: Sums, first: int = 0) -> None:
        """Add the sums of other elements, whose element 0 is this one's element `first`."""
        if other.worst >= 0 and (self.worst < 0 or other.max_abs > self.max_abs):
            self.worst = other.worst + first
            self.max_abs = other.max_abs
        self.unequal += other.unequal
        self.nonfinite += other.nonfinite
        self.square += other.square
        self.square_a += other.square_a
        self.square_b += other.square_b
        self.product += other.product


def is_numeric(dtype: str) -> bool:
    """Whether there is arithmetic on a dtype: not on bits, packed or quantized numbers."""
    return dtypes.info(dtype).kind not in ("packed", "quantized")


class Adder:
    """Adds up pairs of blocks of one pair of dtypes, in memory of its own; for one thread.

    New arrays of this size would be new pages each time, which cost more than the arithmetic.

    Args:
        dtypes_of: torch's names of the dtypes of A and B.
        tolerance: largest |a - b| that counts as equal.
    """

    def __init__(self, dtypes_of: tuple[str, str], tolerance: float = 0.0) -> None:
        self._same_dtype = dtypes_of[0] == dtypes_of[1]
        self._numeric = is_numeric(dtypes_of[0]) and is_numeric(dtypes_of[1])
        kinds = {dtypes.info(dtype).kind for dtype in dtypes_of}
        self._exact = self._same_dtype and bool(kinds & {"int", "uint"})
        self._tolerance = tolerance
        complex_ = "complex" in kinds
        self._x, self._y, self._z = (
            np.empty(STEP, np.complex128 if complex_ else np.float64) for _ in range(3)
        )
        self._apart = np.empty(STEP) if complex_ else self._z
        self._flags = np.empty(STEP, np.bool_)

    def compare(self, a: NDArray[Any], b: NDArray[Any]) -> Sums:
        """Compare two blocks.

        Args:
            a: (n,) in NumPy's type for its dtype.
            b: (n,) likewise.

        Returns:
            The sums. Where there is no arithmetic on a dtype, only `unequal` is filled.
        """
        total = Sums()
        with np.errstate(all="ignore"):
            for first, stop in _steps(len(a)):
                total.merge(self._step(a[first:stop], b[first:stop]), first)
        return total

    def equal(self, a: NDArray[Any]) -> Sums:
        """Return the sums of a block (n,) that is the same on both sides."""
        total = Sums()
        if not self._numeric:
            return total
        with np.errstate(all="ignore"):
            for first, stop in _steps(len(a)):
                x = _parts(self._wide(a[first:stop], self._x))
                square = _dot(x, x)
                if not math.isfinite(square):
                    x[~np.isfinite(x)] = 0.0
                    square = _dot(x, x)
                total.merge(Sums(square_a=square, square_b=square, product=square))
        return total

    def _step(self, a: NDArray[Any], b: NDArray[Any]) -> Sums:
        if not self._numeric:
            return Sums(unequal=int(np.count_nonzero(~_same_bits(a, b))))
        n = len(a)
        sums = Sums()
        x, y, z, apart = (
            self._wide(a, self._x),
            self._wide(b, self._y),
            self._z[:n],
            self._apart[:n],
        )
        if self._exact:
            apart[:] = _distance(a, b)
        else:
            np.subtract(x, y, out=z)
            np.abs(z, out=apart)
        most = float(apart.max())
        if not math.isfinite(most):
            self._set_aside(a, b, (x, y, apart), sums)
            most = float(apart.max())
        if most > 0:
            sums.max_abs, sums.worst = most, int(apart.argmax())
        np.greater(apart, self._tolerance, out=self._flags[:n])
        sums.unequal += int(np.count_nonzero(self._flags[:n]))
        x, y = _parts(x), _parts(y)
        sums.square = _dot(apart, apart)
        sums.square_a, sums.square_b = _dot(x, x), _dot(y, y)
        sums.product = _dot(x, y)
        return sums

    def _wide(self, array: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        """The numbers as float64 or complex128."""
        made = out[: len(array)]
        if array.dtype.names:  # complex32, a pair of float16
            made.real, made.imag = array["real"], array["imag"]
        else:
            made[:] = array
        return made

    def _set_aside(
        self, a: NDArray[Any], b: NDArray[Any], wide: tuple[NDArray[Any], ...], sums: Sums
    ) -> None:
        """Count what is not finite, and put zeros in its place."""
        x, y = wide[:2]
        odd = ~(np.isfinite(x) & np.isfinite(y))
        p, q = x[odd], y[odd]
        same = p == q
        if self._same_dtype:
            same |= _same_bits(a[odd], b[odd])
        else:
            same |= np.isnan(p) & np.isnan(q)
        sums.nonfinite = sums.unequal = int(np.count_nonzero(~same))
        for array in wide:
            array[odd] = 0


def _dot(x: _Floats, y: _Floats) -> float:
    return sum(
        float(np.dot(x[first : first + _SERIAL], y[first : first + _SERIAL]))
        for first in range(0, len(x), _SERIAL)
    )


def _steps(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, STEP):
        yield first, min(first + STEP, count)


def _distance(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """|a - b| of integers of one dtype; 64-bit ones would lose digits on the way to float64."""
    unsigned = f"u{a.dtype.itemsize}"
    apart: NDArray[Any] = np.where(a > b, a - b, b - a).view(unsigned)
    return apart


def _parts(array: NDArray[Any]) -> _Floats:
    """Real numbers as they are, complex ones as pairs."""
    return array.view(np.float64)


def _same_bits(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    width = a.dtype.itemsize
    word = f"u{min(width, 8)}"
    same = a.view(word) == b.view(word)
    whole: NDArray[np.bool_] = same.reshape(len(a), -1).all(axis=1)
    return whole
