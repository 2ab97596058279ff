"""Medians, spreads and trends that a few wild rows cannot move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import erfc, isfinite, sqrt
from statistics import median

#: Median absolute deviation -> standard deviation of a normal distribution.
_MAD = 1.4826
#: Rows that a slope is found from; their pairs grow with the square.
_MOST = 150
#: A row counts for no more than so many sigma.
_CLIP = 4.0
#: The scatter of so many rows may be twice what it seems; with more rows it soon is what it seems.
_FEW = 20
#: Differences up to which their ranks are counted out.
_EXACT = 30
#: The least rows that make a regime.
LEAST = 10


@dataclass(frozen=True)
class Spread:
    """A median with its spread.

    Attributes:
        median: of the finite numbers.
        low: the first quartile.
        high: the third quartile.
        count: how many numbers.
    """

    median: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread | None:
    """Return median and quartiles; None without a finite number."""
    kept = sorted(value for value in values if isfinite(value))
    if not kept:
        return None
    last = len(kept) - 1
    return Spread(median(kept), kept[round(last / 4)], kept[round(last * 3 / 4)], len(kept))


@dataclass(frozen=True)
class Course:
    """What a quantity does: a level, a trend where there is one, and how it scatters.

    Attributes:
        origin: the step at which the level is taken: the last one.
        level: the value expected there.
        slope: per step; 0 where no trend stands out from the scatter.
        sigma: standard deviation of a row around the course.
        memory: correlation of a row's deviation with the one before, from 0 to 0.9.
        count: rows that it was found from.
        span: steps that they cover.
    """

    origin: float
    level: float
    slope: float
    sigma: float
    memory: float
    count: int
    span: float

    def at(self, step: float) -> float:
        """Return the value expected at a step."""
        return self.level + self.slope * (step - self.origin)

    def error(self, count: int, step: float) -> float:
        """Return the standard error of the mean of `count` rows around `step` against this."""
        effective = self.sigma * sqrt((1 + self.memory) / (1 - self.memory))
        effective *= 1 + (_FEW / self.count) ** 2
        variance = 1 / count + 1 / self.count
        if self.slope:
            away = (step - self.origin) / self.span + 0.5
            variance += 12 * away * away / self.count
        return effective * sqrt(variance)


def course(steps: Sequence[float], values: Sequence[float]) -> Course | None:
    """Fit a course: Theil and Sen's slope where it is significant, and the median around it.

    Returns:
        None where there are fewer than ten finite values.
    """
    pairs = [(x, y) for x, y in zip(steps, values, strict=True) if isfinite(y)]
    if len(pairs) < LEAST:
        return None
    origin = max(x for x, _ in pairs)
    span = max(origin - min(x for x, _ in pairs), 1.0)
    slope = _slope(pairs)
    level, rest = _around(pairs, origin, slope)
    sigma = _MAD * median(map(abs, rest))
    # The slope's own standard error over the span is about sigma * sqrt(12 / n).
    if abs(slope) * span <= 3 * sigma * sqrt(12 / len(pairs)):
        slope = 0.0
        level, rest = _around(pairs, origin, slope)
        sigma = _MAD * median(map(abs, rest))
    sigma = max(sigma, 1e-9 * abs(level), 1e-300)
    return Course(origin, level, slope, sigma, _memory(rest, sigma), len(pairs), span)


def _slope(pairs: Sequence[tuple[float, float]]) -> float:
    every = -(-len(pairs) // _MOST)
    few = pairs[::every]
    slopes = [
        (y2 - y1) / (x2 - x1)
        for number, (x1, y1) in enumerate(few)
        for x2, y2 in few[number + 1 :]
        if x2 != x1
    ]
    return median(slopes) if slopes else 0.0


def _around(
    pairs: Sequence[tuple[float, float]], origin: float, slope: float
) -> tuple[float, list[float]]:
    leveled = [y - slope * (x - origin) for x, y in pairs]
    level = median(leveled)
    return level, [y - level for y in leveled]


def _memory(rest: Sequence[float], sigma: float) -> float:
    bound = _CLIP * sigma
    clipped = [min(max(value, -bound), bound) for value in rest]
    power = sum(value * value for value in clipped)
    if not power:
        return 0.0
    product = sum(a * b for a, b in pairwise(clipped))
    return min(max(product / power, 0.0), 0.9)


def clipped_mean(values: Sequence[float], sigma: float) -> float:
    """Return the mean of deviations, none of which counts for more than four sigma."""
    bound = _CLIP * sigma
    return sum(min(max(value, -bound), bound) for value in values) / len(values)


def pair_error(differences: Sequence[float], least: float) -> float:
    """Return the standard error of the median of differences, by how they scatter around it.

    Args:
        differences: of pairs.
        least: standard deviation that they have at least, as numbers are printed with few digits.
    """
    middle = median(differences)
    sigma = max(_MAD * median(abs(value - middle) for value in differences), least)
    return 1.25 * sigma / sqrt(len(differences))


def signed_rank(differences: Sequence[float]) -> float:
    """Return Wilcoxon's two-sided chance that differences without a sign would rank as these do.

    Exact up to 30 differences that are not 0 (ties count as they stand), normal for more.
    """
    kept = sorted((value for value in differences if value), key=abs)
    count = len(kept)
    total = count * (count + 1) // 2
    up = sum(rank for rank, value in enumerate(kept, 1) if value > 0)
    far = max(up, total - up)
    if not count:
        return 1.0
    if count > _EXACT:
        spread_of = sqrt(count * (count + 1) * (2 * count + 1) / 24)
        return min(1.0, erfc((far - total / 2 - 0.5) / spread_of / sqrt(2)))
    ways = [1] + [0] * total
    for rank in range(1, count + 1):
        for place in range(total, rank - 1, -1):
            ways[place] += ways[place - rank]
    return float(min(1.0, 2 * sum(ways[far:]) / 2**count))
