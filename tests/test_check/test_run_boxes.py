"""Which numbers of two saves' moments are compared."""

from __future__ import annotations

import math

import pytest

from dcpctl.check.history_moments import _boxes


@pytest.mark.parametrize(
    "shape",
    [(), (7,), (100_000,), (4000, 512), (3, 100_000), (2, 3, 50_000), (64, 64, 64, 3), (1, 40_000)],
)
def test_a_sample_is_bounded_spread_and_inside(shape: tuple[int, ...]) -> None:
    found = list(_boxes(shape, whole=False, places=4))
    numbers = 0
    for starts, stops in found:
        assert len(starts) == len(stops) == len(shape)
        assert all(0 <= a < b <= n for a, b, n in zip(starts, stops, shape, strict=True))
        numbers += math.prod(b - a for a, b in zip(starts, stops, strict=True))
    assert numbers <= 16_384
    assert numbers >= min(math.prod(shape), 8_192)
    assert not shape or (found[0][0][0], found[-1][1][0]) == (0, shape[0])


def test_all_is_all() -> None:
    boxes = list(_boxes((3000, 1000), whole=True, places=4))
    assert sum(math.prod(b - a for a, b in zip(*box, strict=True)) for box in boxes) == 3_000_000
    assert len(boxes) == 3
