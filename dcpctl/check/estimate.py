"""Did the moments of an optimizer go on from one save to the next, or begin again?

A mean of squares decays by beta2 a step and what is added is never negative, so after n steps no
number is below beta2^n of what it was, whatever the gradients were. One that is began again. That
is a proof, and it needs no healthy run to compare with; but beta2^n must not be too small: it
reaches about 3 / (1 - beta2) steps back, further for parameters whose gradients are rare.

What began again k steps ago holds k gradients: it is about 1 - beta2^k of what it would be. That
tells k. Where beta2^n is too small to prove anything it is a hint too, if the first moments have
not fallen along with the second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]

#: Slots that decay by a factor that a param group names, and never fall otherwise.
DECAYS: dict[str, tuple[str, ...]] = {
    "exp_avg_sq": ("betas",),  # Adam and its kin
    "exp_inf": ("betas",),  # Adamax
    "square_avg": ("alpha", "rho"),  # RMSprop, Adadelta
    "acc_delta": ("rho",),  # Adadelta
}
#: Slots that never fall at all.
MONOTONE = frozenset({"max_exp_avg_sq", "sum"})  # AMSGrad, Adagrad
#: Unit roundoff and smallest normal number of the dtypes that are compared.
_ROUNDOFF = {
    "float64": (2.0**-53, 2.0**-1022),
    "float32": (2.0**-24, 2.0**-126),
    "bfloat16": (2.0**-8, 2.0**-126),
    "float16": (2.0**-11, 2.0**-14),
}
_SLACK = 1e-3
# Of one parameter and of all: a flipped bit shall not look like a restart.
_LEAST = 3
# A hint needs exp_avg^2 / exp_avg_sq to rise so much and to so much (a steady gradient's is 1, mere
# noise's (1 - beta1) / (1 + beta1)), and exp_avg_sq to fall to so much, in so many parameters.
_RISE, _STEADY, _FALL, _MOST = 4.0, 0.7, 0.4, 0.75
# By how much the gradients' squares may have changed meanwhile, when k is told from exp_avg_sq:
# within its reach, and beyond.
_DRIFT, _FAR_DRIFT = 1.5, 3.0
#: Steps back that second moments see: beta2^n is 5 % there.
_REACH = 3.0


def decay_of(slot: str, values: Mapping[str, object]) -> float | None:
    """Return the factor by which a slot decays in a step, from its param group's values.

    None for slots that are no such means, and where the group does not tell.
    """
    if slot in MONOTONE:
        return 1.0
    for key in DECAYS.get(slot, ()):
        value = values.get(key)
        if isinstance(value, (list, tuple)):
            value = value[1] if len(value) > 1 else None
        if isinstance(value, (int, float)) and 0.0 < value < 1.0:
            return float(value)
    return None


def comparable(dtype: str | None) -> bool:
    """Whether the rounding of a dtype is known."""
    return dtype in _ROUNDOFF


def coarser(one: str, other: str) -> str:
    """Return which of two comparable dtypes rounds more."""
    return max(one, other, key=lambda dtype: _ROUNDOFF[dtype])


def reach(decay: float) -> int | None:
    """How many steps back second moments see; None for slots that never fall."""
    return None if decay >= 1.0 else round(_REACH / (1.0 - decay))


@dataclass(slots=True)
class Tally:
    """One slot of one parameter at two saves, counted block by block.

    Attributes:
        parameter: its name.
        slot: the state slot.
        fqn: the slot's entry in the later save.
        decay: factor of a step; 1 for slots that never fall.
        steps: steps between the saves, at most.
        dtype: the coarser of the two.
        numbers: numbers that could be compared.
        below: of these, the ones that fell below what decay alone leaves.
        sums: of the slot, in the earlier and in the later save.
        unit_squares: sums of exp_avg^2 / exp_avg_sq in both; 0 without first moments.
        units: numbers in these sums.
    """

    parameter: str
    slot: str
    fqn: str
    decay: float
    steps: int
    dtype: str
    numbers: int = 0
    below: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    unit_squares: list[float] = field(default_factory=lambda: [0.0, 0.0])
    units: int = 0

    @property
    def least(self) -> float:
        """The part of each number that decay alone leaves."""
        roundoff, _ = _ROUNDOFF[self.dtype]
        slack = 1 - _SLACK - 4 * roundoff  # storing may round once more
        if self.decay >= 1.0:
            return slack
        # Each step rounds the product and the sum.
        step = math.log(self.decay) + 2 * math.log1p(-roundoff)
        return math.exp(max(self.steps * step, -700.0)) * slack

    @property
    def restarted(self) -> bool:
        """Whether it is proved that some of it began again."""
        return self.below >= min(_LEAST, self.numbers) > 0

    def add(
        self, before: Floats, after: Floats, firsts: tuple[Floats, Floats] | None = None
    ) -> None:
        """Count a block: the slot in the earlier and the later save, first moments likewise."""
        tiny = _ROUNDOFF[self.dtype][1]
        old, new = before.astype(np.float64).ravel(), after.astype(np.float64).ravel()
        sound = np.isfinite(old) & np.isfinite(new)
        least = self.least
        told = sound & (old * least > 64 * tiny)
        self.numbers += int(told.sum())
        self.below += int((new[told] < old[told] * least).sum())
        self.sums[0] += float(old[sound].sum())
        self.sums[1] += float(new[sound].sum())
        if firsts is not None:
            first, last = (m.astype(np.float64).ravel() for m in firsts)
            both = sound & (old > 64 * tiny) & (new > 64 * tiny)
            both &= np.isfinite(first) & np.isfinite(last)
            self.units += int(both.sum())
            self.unit_squares[0] += float((first[both] ** 2 / old[both]).sum())
            self.unit_squares[1] += float((last[both] ** 2 / new[both]).sum())


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the moments of two saves say together.

    Attributes:
        proved: some of them began again for certain; otherwise it is a hint.
        tallies: those that show it.
        compared: all that could be compared.
        since: steps since they began again: likely, least and most; None where that does not show.
    """

    proved: bool
    tallies: tuple[Tally, ...]
    compared: int
    since: tuple[int, int, int] | None

    @property
    def numbers(self) -> int:
        """Numbers that could be compared in those that show it."""
        return sum(tally.numbers for tally in self.tallies)

    @property
    def below(self) -> int:
        """Of these, the ones that are lower than decay alone leaves."""
        return sum(tally.below for tally in self.tallies)

    @property
    def share(self) -> float:
        """What is left of the slot in the median tensor."""
        return float(np.median([t.sums[1] / t.sums[0] for t in self.tallies if t.sums[0] > 0]))


def judge(tallies: Sequence[Tally], age: float) -> Estimate | None:
    """Say whether moments began again between two saves; None where nothing shows it.

    Args:
        tallies: of every slot of every parameter that was compared.
        age: steps that the optimizer had taken at the earlier save; moments younger than their
            reach are smaller for that reason alone.
    """
    shown = tuple(tally for tally in tallies if tally.restarted)
    proved = sum(tally.below for tally in shown) >= _LEAST
    if not proved:
        shown = _hints(tallies, age)
        if not shown:
            return None
    return Estimate(proved, shown, len(tallies), _since(shown, age))


def _grown(decay: float, age: float) -> float:
    """What a mean that began at zero has of its final size at an age."""
    grown: float = 1.0 - decay ** max(age, 1.0)
    return grown


def _hints(tallies: Sequence[Tally], age: float) -> tuple[Tally, ...]:
    """The tallies whose second moments fell and first ones did not, where most are such."""
    told = [t for t in tallies if min(*t.unit_squares, *t.sums) > 0 and t.decay < 1]
    shown = []
    for tally in told:
        due = _grown(tally.decay, age + tally.steps) / _grown(tally.decay, age)
        rise = tally.unit_squares[1] / tally.unit_squares[0] * due
        fall = tally.sums[1] / tally.sums[0] / due
        steady = tally.unit_squares[1] / tally.units
        if rise >= _RISE and steady >= _STEADY and fall <= _FALL:
            shown.append(tally)
    return tuple(shown) if len(shown) >= max(2, _MOST * len(told)) else ()


def _since(tallies: Sequence[Tally], age: float) -> tuple[int, int, int] | None:
    """Steps since the moments began again: likely, least, most.

    The median parameter's second moments, against what those of the earlier save had come to.
    """
    # Adamax keeps maxima, which are as large after one step as ever.
    told = [t for t in tallies if t.decay < 1 and t.slot != "exp_inf" and min(t.sums) > 0]
    if not told:
        return None
    found = []
    for sign in (0, -1, 1):
        each = []
        for tally in told:
            near = tally.steps <= (reach(tally.decay) or 0)
            drift = (_DRIFT if near else _FAR_DRIFT) ** sign
            share = tally.sums[1] / tally.sums[0] * _grown(tally.decay, age) * drift
            k = math.log1p(-share) / math.log(tally.decay) if share < 1 else math.inf
            each.append(min(max(k, 1.0), tally.steps))
        found.append(float(np.median(each)))
    return round(found[0]), math.floor(found[1]), math.ceil(found[2])
