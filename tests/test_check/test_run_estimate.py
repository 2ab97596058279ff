"""The statistics of DCP602 by themselves, on moments that NumPy makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dcpctl.check.estimate import Tally, coarser, comparable, decay_of, judge, reach

Floats = NDArray[Any]


def tally(decay: float, steps: int, dtype: str = "float32", name: str = "w") -> Tally:
    return Tally(name, "exp_avg_sq", f"{name}.exp_avg_sq", decay, steps, dtype)


def adam(
    gradients: Floats, beta2: float, state: tuple[Floats, Floats] | None = None
) -> tuple[Floats, Floats]:
    """AdamW's moments in float32 after gradients (steps, n), from zero or from a state."""
    first, second = state or (np.zeros(gradients.shape[1], np.float32),) * 2
    for gradient in gradients.astype(np.float32):
        first = first * np.float32(0.9) + gradient * np.float32(0.1)
        second = second * np.float32(beta2) + gradient * gradient * np.float32(1 - beta2)
    return first, second


def noise(steps: int, numbers: int = 400, scale: float = 1.0, seed: int = 0) -> Floats:
    generator = np.random.default_rng(seed)
    scales = np.exp(generator.normal(size=numbers))
    return generator.normal(size=(steps, numbers)) * scales * scale


@settings(max_examples=60, deadline=None)
@given(
    beta2=st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999, 0.9999]),
    steps=st.integers(1, 60),
    scales=st.lists(st.sampled_from([0.0, 1e-18, 1e-6, 1.0, 1e6, 1e15]), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_no_gradients_whatever_look_like_a_restart(
    beta2: float, steps: int, scales: list[float], seed: int
) -> None:
    before = adam(noise(30, 50, 1.0, seed), beta2)
    gradients = noise(steps, 50, 1.0, seed + 100)
    gradients *= np.resize(scales, steps)[:, None]
    _, after = adam(gradients, beta2, before)
    counted = tally(beta2, steps)
    counted.add(before[1], after)
    assert counted.numbers == 50
    assert counted.below == 0


@pytest.mark.parametrize(("beta2", "k"), [(0.95, 1), (0.95, 10), (0.95, 18), (0.999, 300)])
def test_a_restart_is_proved_and_dated(beta2: float, k: int) -> None:
    before, after = adam(noise(600), beta2), adam(noise(k, seed=0), beta2)
    counted = tally(beta2, k)
    counted.add(before[1], after[1], (before[0], after[0]))
    said = judge([counted], 600)
    assert said is not None
    assert said.proved
    assert (said.numbers, said.below) == (400, counted.below)
    assert said.since is not None
    likely, least, most = said.since
    assert least <= k <= most <= k
    assert abs(likely - k) <= max(1, 0.3 * k)


def test_a_restart_beyond_the_reach_is_not_seen() -> None:
    before, after = adam(noise(600), 0.95), adam(noise(300, seed=1), 0.95)
    counted = tally(0.95, 300)
    counted.add(before[1], after[1], (before[0], after[0]))
    assert judge([counted], 600) is None


def test_numbers_that_rest_show_a_restart_long_ago() -> None:
    """A rare word's row has had no gradient for 300 steps; beta2^300 is 2e-7."""
    before = adam(noise(100), 0.95)
    rest = np.zeros((300, 400))
    for state, restarted in ((before, False), (None, True)):
        counted = tally(0.95, 300)
        counted.add(before[1], adam(rest, 0.95, state)[1])
        assert counted.restarted is restarted


def test_a_flipped_bit_is_no_restart() -> None:
    before = adam(noise(100), 0.95)
    after = adam(noise(5, seed=1), 0.95, before)[1].copy()
    after[7] = 0.0
    counted = tally(0.95, 5)
    counted.add(before[1], after)
    assert (counted.below, counted.restarted) == (1, False)
    assert judge([counted], 100) is None


def test_what_is_not_finite_or_has_underflowed_is_left_out() -> None:
    before = np.array([1.0, np.nan, np.inf, 1e-37, 0.0], np.float32)
    counted = tally(0.95, 10)
    counted.add(before, np.zeros(5, np.float32))
    assert (counted.numbers, counted.below) == (1, 1)


def hinted(k: int, scale: float = 1.0, grown: float = 1.0) -> object:
    """A restart k steps ago, 20,000 steps after the save before; or none, if k is 0."""
    counted = []
    for seed in range(8):
        before = adam(noise(4000, 100, seed=seed), 0.999)
        gradients = noise(k or 4000, 100, scale, seed + 50)
        gradients[-20:] *= grown
        after = adam(gradients, 0.999)
        one = tally(0.999, 20_000, name=f"w{seed}")
        one.add(before[1], after[1], (before[0], after[0]))
        counted.append(one)
    said = judge(counted, 4000)
    if said is not None:
        assert not said.proved
        assert said.since is not None
        assert said.since[1] <= k <= said.since[2]
    return said


def test_a_recent_restart_that_cannot_be_proved_is_hinted_at() -> None:
    assert hinted(20) is not None
    assert hinted(50) is not None


def test_gradients_that_fell_or_rose_are_no_hint() -> None:
    assert hinted(0) is None
    assert hinted(0, scale=0.01) is None
    assert hinted(0, grown=10.0) is None


def test_moments_that_never_fall_prove_it_at_any_distance() -> None:
    counted = Tally("w", "sum", "w.sum", 1.0, 10**9, "float32")
    counted.add(np.full(9, 2.0, np.float32), np.full(9, 1.0, np.float32))
    said = judge([counted], 10**9)
    assert said is not None
    assert said.since is None
    assert reach(1.0) is None


def test_where_a_decay_is_told() -> None:
    assert decay_of("exp_avg_sq", {"betas": (0.9, 0.95)}) == 0.95
    assert decay_of("exp_avg_sq", {"betas": [0.9, 0.999]}) == 0.999
    assert decay_of("square_avg", {"alpha": 0.99}) == 0.99
    assert decay_of("square_avg", {"rho": 0.9}) == 0.9
    assert decay_of("max_exp_avg_sq", {}) == 1.0
    for values in ({}, {"betas": None}, {"betas": (0.9,)}, {"betas": (0.9, 1.0)}):
        assert decay_of("exp_avg_sq", values) is None
    assert decay_of("exp_avg", {"betas": (0.9, 0.95)}) is None


def test_which_dtypes_are_compared() -> None:
    assert coarser("float32", "bfloat16") == "bfloat16"
    assert coarser("float64", "float32") == "float32"
    assert comparable("float16")
    assert not comparable("uint8")
    assert not comparable(None)
    assert (reach(0.95), reach(0.999)) == (60, 3000)
