"""What numbers of first and second moments say of each other, block by block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcpctl.check.estimate import Floats
from dcpctl.check.moment_bound import (
    MARGIN,
    SQUARES,
    STEADY_MARGIN,
    Betas,
    Bound,
    bound,
    coarser,
    precision_of,
    unit,
)

#: So many second moments other than zero make a first moment of zeros no accident.
_LEAST_TOLD = 8
#: Gradients have either sign: of means of them, less are seldom negative.
_FEW_NEGATIVE = 1 / 16
#: Above it the smallest number of a dtype is its own decayed value, so that decay alone does not
#: end in zero: k (1 - beta1) is below a half for k = 1.
_STICKS = 0.5


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which terms two moments came about.

    Attributes:
        form: how the second moment comes about, of `moment_bound`.
        betas: what is known of them.
        steps: that were taken, at most; infinite where nobody says.
        dtype: of the moments; the coarser one where they differ.
        steady: the save before had these betas too, long enough ago.
        floor: what second moments come to without any gradient, at most.
    """

    form: str
    betas: Betas
    steps: float
    dtype: str
    steady: bool = False
    floor: float = 0.0

    def bound(self, dtype: str) -> Bound:
        """The bound for moments that were rounded as a dtype is."""
        return bound(self.betas, self.steps, dtype, self.form)

    def widest(self, dtype: str) -> Bound:
        """The bound whatever the betas were before, up to these and to the usual beta2."""
        return bound(self.betas.widened(), self.steps, dtype, self.form)


@dataclass(slots=True)
class Evidence:
    """Counts over blocks of numbers that lie together, such as a chunk.

    Attributes:
        terms: of the two moments.
        numbers: read of each moment.
        beyond: first moments far beyond what the second ones allow.
        proved: of these, the ones that no betas of the past explain.
        worst: how many times sqrt(v), or v for Adamax, the worst of these is; infinite for v = 0.
        factor: the most that any gradients give.
        above: second moments that are larger than the largest one (AMSGrad).
        negative: negative numbers, of the first and of the second moment.
        told: second moments above what they come to without a gradient.
        resting: rows in which both moments are zero.
        alive: any first moment, any second moment is not zero.
    """

    terms: Terms
    numbers: int = 0
    beyond: int = 0
    proved: int = 0
    worst: float = 0.0
    factor: float = 0.0
    above: int = 0
    negative: tuple[int, int] = (0, 0)
    told: int = 0
    resting: int = 0
    alive: tuple[bool, bool] = (False, False)

    @property
    def swapped(self) -> bool:
        """Means of squares are below zero, and a mean of gradients nowhere is."""
        some = self.negative[1] > self.numbers * _FEW_NEGATIVE
        return some and not self.negative[0] and self.numbers >= _LEAST_TOLD

    @property
    def first_zero(self) -> bool:
        """First moments of zero beside second ones that are not: they do not decay to zero."""
        sticks = min(self.terms.betas.first) > _STICKS
        return not self.alive[0] and sticks and self.told >= _LEAST_TOLD

    @property
    def contradicts(self) -> bool:
        """Whether no gradients make both moments, supposed that this is all of a chunk."""
        return bool(self.beyond or self.above or self.swapped or self.first_zero)

    @property
    def certain(self) -> bool:
        """Whether it contradicts whatever the betas were."""
        return bool(self.proved or self.above or self.swapped or self.first_zero)

    def add(self, first: Floats, second: Floats, largest: Floats | None = None) -> None:
        """Count a block: both moments and AMSGrad's largest second one, all of one shape."""
        below = self.negative
        self.negative = below[0] + int((first < 0).sum()), below[1] + int((second < 0).sum())
        self.numbers += first.size
        self.told += int((second > self.terms.floor).sum())
        self.see(first, second)
        if first.ndim > 1:
            rows = [moment.reshape(len(moment), -1).any(axis=1) for moment in (first, second)]
            self.resting += int((~(rows[0] | rows[1])).sum())
        if largest is not None:
            slack = 1 - 4 * unit(self.terms.dtype)  # they may have been cast, and rounded then
            with np.errstate(invalid="ignore"):
                least = second.astype(np.float64) * slack
                self.above += int((largest.astype(np.float64) < least).sum())
        self._judge(first, second)

    def see(self, first: Floats, second: Floats) -> None:
        """Look only whether a block is zero."""
        was = self.alive
        self.alive = was[0] or bool(first.any()), was[1] or bool(second.any())

    def _judge(self, first: Floats, second: Floats) -> None:
        terms, dtype = self.terms, self.terms.dtype
        limit = terms.bound(dtype)
        self.factor = max(self.factor, limit.factor)
        margin = STEADY_MARGIN if terms.steady else MARGIN
        suspicious = _above(first, second, limit, 0.99 * margin)
        if not suspicious.any():
            return
        one, other = first[suspicious], second[suspicious]
        excess = limit.excess(one, other)
        if dtype == "float32":
            dtype = precision_of(dtype, first, second) or dtype
            limit = terms.bound(dtype)
            self.factor = max(self.factor, limit.factor)
            excess = limit.excess(one, other)
        beyond = excess > margin
        if not beyond.any():
            return
        self.beyond += int(beyond.sum())
        one, other = one[beyond], other[beyond]
        widest = terms.bound(dtype) if terms.steady else terms.widest(dtype)
        proved = widest.excess(one, other) > 1
        self.proved += int(proved.sum())
        root = other.astype(np.float64)
        with np.errstate(divide="ignore"):
            root = np.sqrt(root) if terms.form == SQUARES else root
            ratios = np.abs(one.astype(np.float64)) / root
        self.worst = max(self.worst, float(ratios.max()))


def _above(first: Floats, second: Floats, limit: Bound, times: float) -> NDArray[np.bool_]:
    """The first moments above so many times a bound that forgives no underflow, in one pass."""
    wide = np.float64 if first.dtype.itemsize > 4 else np.float32
    with np.errstate(all="ignore"):
        root = second.astype(wide, copy=False)
        root = np.sqrt(root) if limit.form == SQUARES else root
        above: NDArray[np.bool_] = np.abs(first.astype(wide, copy=False)) > root * wide(
            times * limit.factor
        )
    return above


def terms_of(
    form: str,
    betas: Betas,
    steps: float,
    *dtypes: str,
    steady: bool = False,
    floor: float = 0.0,
) -> Terms:
    """Return the terms of moments that may have different dtypes."""
    dtype = dtypes[0]
    for other in dtypes[1:]:
        dtype = coarser(dtype, other)
    return Terms(form, betas, steps, dtype, steady, floor)
