"""How large a first moment can be beside its second moment, whatever the gradients were.

Adam and its kin keep, of the same gradients g,

    m_t = b1 m_{t-1} + (1 - b1) g_t          v_t = b2 v_{t-1} + (1 - b2) g_t^2

(torch/optim/adam.py; nadam.py and radam.py alike, with the weight decay in g or not). From zero

    |m_t| = (1 - b1) |sum_k b1^(t-k) g_k| = (1 - b1) |sum_k (b1^2/b2)^((t-k)/2) b2^((t-k)/2) g_k|

and Cauchy and Schwarz, with r = b1^2 / b2, give

    |m_t| <= (1 - b1) / sqrt(1 - b2) * sqrt((1 - r^t) / (1 - r)) * sqrt(v_t)

It is attained: by one gradient at t = 1, and by gradients that grow by b2/b1 a step. With the usual
betas (0.9, 0.999) no first moment exceeds 7.27 times the root of the second one. For r < 1 the
bound has a limit, which holds for any t; for r = 1 the second root is sqrt(t), and for r > 1 it
grows without limit.

The square of the factor obeys S_t = (1 - b1)^2 / (1 - b2) + r S_{t-1}, from S_0 = 0. That also
tells what betas do that change from step to step: within a box of betas both terms are convex in
each of b1 and b2, so that the largest S_t is found at a corner in every step.

AMSGrad's `max_exp_avg_sq` is the largest `exp_avg_sq` there was (torch.maximum rounds nothing), so
that it is never below it, and bounds m less tightly. Adamax keeps an infinity norm,
u_t = max(b2 u_{t-1}, |g_t| + eps), so that |g_k| <= u_t / b2^(t-k), hence

    |m_t| <= (1 - b1) (1 - q^t) / (1 - q) u_t,    q = b1 / b2

whose factor obeys T_t = (1 - b1) + q T_{t-1}. Lion, SGD and Adagrad have no such pair of means.

Rounding. A result is (1 + d) times the exact one with |d| <= u, plus at most the smallest number
that the dtype keeps. Worst of all signs, that is a recursion with b1 and 1 - b1 a little larger and
b2 and 1 - b2 a little smaller, and a sum of what underflowed, a geometric series too. Nothing
accumulates beyond that. u is taken as a whole unit in the last place, which covers stochastic
rounding. So float32's bound is the exact one to six digits, and bfloat16's is 22 % wider at
(0.9, 0.999).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dcpctl.check.estimate import Floats
from dcpctl.model.optimizer.coverage import Parameter

SQUARES, MAXIMUM = "squares", "maximum"

#: By the class names that an optimizer may have: slot of the first moment, of the second one, and
#: what the second is. Only those whose two recursions are the ones above.
PAIRS: dict[str, tuple[str, str, str]] = {
    "Adam": ("exp_avg", "exp_avg_sq", SQUARES),
    "AdamW": ("exp_avg", "exp_avg_sq", SQUARES),
    "NAdam": ("exp_avg", "exp_avg_sq", SQUARES),
    "RAdam": ("exp_avg", "exp_avg_sq", SQUARES),
    "SparseAdam": ("exp_avg", "exp_avg_sq", SQUARES),  # rows without gradient rest in both
    "Adamax": ("exp_avg", "exp_inf", MAXIMUM),
    "FusedAdam": ("exp_avg", "exp_avg_sq", SQUARES),  # Apex, Transformer Engine, DeepSpeed
    "SkipStepAdamW": ("exp_avg", "exp_avg_sq", SQUARES),  # OLMo-core
    "Muon with its own AdamW (AdamW group)": ("exp_avg", "exp_avg_sq", SQUARES),
}
#: Slots that such an optimizer may keep besides; with others it is another one in its clothes.
_BESIDE = frozenset(
    {"step", "max_exp_avg_sq", "mu_product", "master_param", "fp32_param", "master_params"}
)
#: Unit in the last place, and what is lost where a number underflows: float16 is kept with its
#: subnormals, which hardware may flush to zero of the others.
_PRECISION = {
    "float64": (2.0**-52, 2.0**-1022),
    "float32": (2.0**-23, 2.0**-126),
    "bfloat16": (2.0**-7, 2.0**-126),
    "float16": (2.0**-10, 2.0**-24),
}
#: So many times the bound must be exceeded where the save before had the same betas, and where
#: there is none. Others may have been used in the last steps then, and nobody wrote it down: beta1
#: between 0.85 and 0.95 moves the bound by 1.8, and beta2 from 0.999 to 0.99 by 2.8 one step later.
STEADY_MARGIN, MARGIN = 1.5, 3.0
_FORGOTTEN = 0.02
#: The usual beta2, up to which an unknown one is believed to have been.
_USUAL = 0.999
_MOST_STEPS = 100_000
_INFINITE = 1e30


@dataclass(frozen=True, slots=True)
class Betas:
    """What is known of the betas: the least and the largest of each that may have been used.

    Attributes:
        first: of beta1.
        second: of beta2.
    """

    first: tuple[float, float]
    second: tuple[float, float]

    def __str__(self) -> str:
        spans = (" to ".join(f"{beta:g}" for beta in dict.fromkeys(pair)) for pair in self.spans)
        return f"betas {' and '.join(spans)}"

    @property
    def spans(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Of beta1, of beta2."""
        return self.first, self.second

    def widened(self) -> Betas:
        """Any beta1 up to the largest, and any beta2 up to the largest or to the usual one."""
        least, most = self.second
        return Betas((0.0, self.first[1]), (least, max(most, _USUAL)))

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """Every corner of the box."""
        return tuple(dict.fromkeys((b1, b2) for b1 in self.first for b2 in self.second))


@dataclass(frozen=True, slots=True)
class Bound:
    """What a first moment m can be beside its second moment v: |m| <= factor * root(v) + rest.

    Attributes:
        factor: times sqrt(v), or times v for Adamax; infinite where anything is possible.
        second_lost: what v may have lost by underflow.
        first_lost: what m may have lost or won by it.
        form: SQUARES or MAXIMUM.
    """

    factor: float
    second_lost: float
    first_lost: float
    form: str

    def excess(self, first: Floats, second: Floats) -> Floats:
        """How many times the bound each |m| is, as float64; 0 where a number is NaN or v < 0."""
        with np.errstate(all="ignore"):
            root = second.astype(np.float64) + self.second_lost
            if self.form == SQUARES:
                root = np.sqrt(root)
            size = np.abs(first.astype(np.float64)) - self.first_lost
            ratio: Floats = size / (root * self.factor)
            ratio[~(second >= 0)] = 0.0
        return np.nan_to_num(ratio, copy=False, nan=0.0, posinf=math.inf)


def memory(betas: Betas, form: str) -> float:
    """Steps after which other betas before them do not matter any more; infinite for r >= 1."""
    slowest = max(_ratio(b1**2 if form == SQUARES else b1, b2) for b1, b2 in betas.corners)
    if slowest >= 1.0:
        return math.inf
    return math.log(_FORGOTTEN) / math.log(slowest) if slowest > 0 else 1.0


def pair_of(parameter: Parameter) -> tuple[str, str, str] | None:
    """Slots of a parameter's moments and what the second one is; None if nothing bounds them."""
    kind = parameter.kind
    found = {PAIRS.get(name) for name in kind.candidates}
    if len(found) != 1:
        return None
    pair = found.pop()
    if pair is None or not {*parameter.slots} <= {*pair[:2], *_BESIDE}:
        return None
    return pair


def betas_of(groups: Iterable[Mapping[str, object]]) -> Betas | None:
    """The span of the betas that param groups name; None where one of them names none.

    Args:
        groups: values of the group at each save that is known. Cyclic schedules (OneCycleLR,
            CyclicLR) leave there between what they move beta1: `base_momentum`, `max_momentum`.
    """
    firsts: list[float] = []
    seconds: list[float] = []
    for values in groups:
        betas = values.get("betas")
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            return None
        pair = [_beta(beta) for beta in betas]
        if pair[0] is None or pair[1] is None:
            return None
        cycled = (_beta(values.get(key)) for key in ("base_momentum", "max_momentum"))
        firsts += [pair[0], *(beta for beta in cycled if beta is not None)]
        seconds.append(pair[1])
    if not firsts:
        return None
    return Betas((min(firsts), max(firsts)), (min(seconds), max(seconds)))


def _beta(value: object) -> float | None:
    """A decay that a mean can have; of what is none, nothing follows."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value < 1.0:
        return None
    return float(value)


def precision_of(dtype: str, *numbers: Floats) -> str | None:
    """The dtype whose rounding the numbers show; None where that is not known.

    Means that were kept in a short dtype and saved in a long one have none of its last bits.
    """
    if dtype not in _PRECISION:
        return None
    if dtype != "float32":
        return dtype
    used = 0
    for block in numbers:
        used |= int(np.bitwise_or.reduce(np.ascontiguousarray(block).view(np.uint32), axis=None))
    if not used & 0xFFFF:
        return "bfloat16"
    return "float16" if not used & 0x1FFF else dtype


def coarser(one: str, other: str) -> str:
    """Which of two dtypes that `precision_of` knows rounds more."""
    return max(one, other, key=unit)


def unit(dtype: str) -> float:
    """The unit in the last place of a dtype that `precision_of` knows."""
    return _PRECISION[dtype][0]


@lru_cache(maxsize=1024)
def bound(betas: Betas, steps: float, dtype: str, form: str) -> Bound:
    """Return the bound after so many steps.

    Args:
        betas: of the optimizer.
        steps: taken, at most; `math.inf` where nobody says.
        dtype: of the moments, one of which `precision_of` knows.
        form: SQUARES or MAXIMUM.
    """
    u, lost = _PRECISION[dtype]
    terms = []
    kept = []
    for b1, b2 in betas.corners:
        # As lerp rounds, m + (1 - b1) (g - m), and v likewise, which is the worst of the ways.
        first = (b1 + 2 * u * min(b1, 1 - b1)) * (1 + u) ** 2
        second = max(b2 - 2 * u * (1 - b2), 0.0) * (1 - u) ** 2
        if form == SQUARES:
            share = (1 - b1) ** 2 * (1 + u) ** 8 / ((1 - b2) * (1 - u) ** 4)
            terms.append((share, _ratio(first**2, second)))
        else:
            terms.append(((1 - b1) * (1 + u) ** 4, _ratio(first, second)))
        kept.append((first, second))
    total = _limit(terms, steps)
    factor = (math.sqrt(total) if form == SQUARES else total) * (1 + 4 * u)
    long = max(second for _, second in kept)
    short = max(first for first, _ in kept)
    return Bound(
        factor,
        # The square, its product, that of the decay: three numbers that may underflow in a step.
        3 * lost * _series(long, steps),
        4 * lost * _series(short, steps),
        form,
    )


def _ratio(one: float, other: float) -> float:
    return one / other if other > 0 else (0.0 if one == 0 else math.inf)


def _series(ratio: float, steps: float) -> float:
    """1 + ratio + ratio^2 + ..., of `steps` terms."""
    return -math.expm1(steps * math.log(ratio)) / (1.0 - ratio) if 0.0 < ratio < 1.0 else 1.0


def _limit(terms: Sequence[tuple[float, float]], steps: float) -> float:
    """The largest S after `steps` of S <- share + ratio * S, each by the worst of the terms."""
    total = 0.0
    step = 0
    while step < steps:
        step += 1
        next_one = max(share + ratio * total for share, ratio in terms)
        if next_one - total <= 1e-9 * total:
            # What is still to come shrinks geometrically, by the ratio of the slowest term.
            slowest = max((ratio for _, ratio in terms if ratio < 1.0), default=0.0)
            return next_one + (next_one - total) * slowest / (1.0 - slowest)
        total = next_one
        if total > _INFINITE or step >= _MOST_STEPS:
            return math.inf
    return total
