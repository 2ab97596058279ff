"""What the comparison of two tensors came to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dcpctl.diff.values_regions import Region
from dcpctl.diff.values_sums import Sums, is_numeric
from dcpctl.errors import DcpctlError
from dcpctl.model.entry import TensorEntry

#: How values were compared.
SAME_BYTES = "the same bytes of the same files"
CHECKSUMS = "checksums"
READ = "read"


@dataclass(frozen=True, slots=True)
class ValueDifference:
    """How the numbers of a tensor of A and one of B compare.

    Numbers are compared as numbers: 0.0 equals -0.0. NaN equals NaN of the same bits (of any bits
    where the dtypes differ), and an infinity equals itself; every other pair with a NaN or an
    infinity in it is unequal, counts as `nonfinite`, and is left out of all that follows it below.

    Attributes:
        a: FQN in A.
        b: FQN in B.
        numel: elements.
        how: SAME_BYTES or CHECKSUMS (proven equal, no number was read) or READ.
        bytes_read: bytes of numbers that were read on both sides together.
        unequal: elements whose difference is more than the tolerance.
        nonfinite: of these, the elements with a NaN or an infinity on one side or both.
        max_abs: largest |a - b|; None where the dtype has no arithmetic (packed and quantized
            numbers, whose bytes are compared).
        worst: index of the element that has it; None if there is none.
        distance: L2 norm of a - b.
        norm_a: L2 norm of A's tensor; NaN where it was not read.
        norm_b: L2 norm of B's.
        cosine: of the angle between the two, both taken as vectors; 1.0 for equal ones; None where
            one of them is all zeros and the other is not, or there is no arithmetic.
        failure: why they could not be compared; the other fields say nothing then.
    """

    a: str
    b: str
    numel: int
    how: str = READ
    bytes_read: int = 0
    unequal: int = 0
    nonfinite: int = 0
    max_abs: float | None = 0.0
    worst: tuple[int, ...] | None = None
    distance: float = 0.0
    norm_a: float = math.nan
    norm_b: float = math.nan
    cosine: float | None = 1.0
    failure: DcpctlError | None = None

    @property
    def same(self) -> bool:
        """Whether they were compared and no element is unequal."""
        return self.failure is None and not self.unequal

    @property
    def relative_l2(self) -> float:
        """L2 norm of a - b over that of a: 0 for equal tensors, infinite where a is all zeros."""
        if not self.distance:
            return 0.0
        return self.distance / self.norm_a if self.norm_a else math.inf


def summed_up(
    a: TensorEntry,
    b: TensorEntry,
    found: Iterable[tuple[Region, Sums | None]],
    rest: Iterable[Sums],
) -> ValueDifference:
    """Make one difference of the sums of all regions.

    Args:
        a: the tensor of A.
        b: the tensor of B.
        found: each region with its sums; None for one whose bits are the same on both sides.
        rest: sums of those with the same bits, where any other differs.
    """
    total, worst = Sums(), None
    same_bits = True
    for region, sums in found:
        if sums is None:
            continue
        same_bits = False
        if sums.worst >= 0 and (worst is None or sums.max_abs > total.max_abs):
            worst = _index(region, sums.worst)
        total.merge(sums)
    for sums in rest:
        total.merge(sums)
    numeric = is_numeric(a.dtype) and is_numeric(b.dtype)
    measured = numeric and not same_bits
    return ValueDifference(
        a.fqn,
        b.fqn,
        a.numel,
        READ,
        bytes_read=a.nbytes + b.nbytes,
        unequal=total.unequal,
        nonfinite=total.nonfinite,
        max_abs=total.max_abs if numeric else None,
        worst=worst,
        distance=math.sqrt(total.square),
        norm_a=math.sqrt(total.square_a) if measured else math.nan,
        norm_b=math.sqrt(total.square_b) if measured else math.nan,
        cosine=_cosine(total) if numeric else None,
    )


def _index(region: Region, number: int) -> tuple[int, ...]:
    """The index in the tensor of element `number` of a region."""
    sizes = [high - low for low, high in zip(region.low, region.high, strict=True)]
    inside = np.unravel_index(number, sizes) if sizes else ()
    return tuple(int(i) + low for i, low in zip(inside, region.low, strict=True))


def _cosine(total: Sums) -> float | None:
    if not total.square:
        return 1.0
    size = math.sqrt(total.square_a) * math.sqrt(total.square_b)
    return max(-1.0, min(1.0, total.product / size)) if size else None
