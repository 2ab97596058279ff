"""The bound of Cauchy and Schwarz: against recursions carried out, and against its own formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dcpctl.check.moment_bound import MAXIMUM, SQUARES, Betas, betas_of, bound, precision_of
from dcpctl.check.moment_evidence import Evidence, terms_of


def one(beta1: float, beta2: float) -> Betas:
    return Betas((beta1, beta1), (beta2, beta2))


def formula(beta1: float, beta2: float, steps: float) -> float:
    r = beta1**2 / beta2
    terms = steps if r == 1 else (1 - r**steps) / (1 - r)
    return (1 - beta1) / math.sqrt(1 - beta2) * math.sqrt(terms)


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("beta2", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_the_factor_is_that_of_the_formula(beta1: float, beta2: float, steps: int) -> None:
    found = bound(one(beta1, beta2), steps, "float64", SQUARES).factor
    expected = formula(beta1, beta2, steps)
    assert found == pytest.approx(expected, rel=1e-6) or (math.isinf(found) and expected > 1e14)


def test_it_has_a_limit_where_r_is_below_one_only() -> None:
    assert bound(one(0.9, 0.999), math.inf, "float32", SQUARES).factor == pytest.approx(
        7.2703, 1e-4
    )
    assert math.isinf(bound(one(0.95, 0.9), math.inf, "float32", SQUARES).factor)
    assert bound(one(0.9, 0.999), math.inf, "float32", MAXIMUM).factor == pytest.approx(
        1.0091, 1e-4
    )


def carried_out(
    gradients: np.ndarray, betas: np.ndarray, dtype: type, form: str
) -> tuple[np.ndarray, np.ndarray]:
    """Both moments after these gradients, (steps, n), with (steps, 2) betas, rounded each time."""
    first = np.zeros(gradients.shape[1], dtype)
    second = np.zeros(gradients.shape[1], dtype)
    for gradient, (b1, b2) in zip(gradients.astype(dtype), betas, strict=True):
        first = (first + dtype(1 - b1) * (gradient - first)).astype(dtype)
        if form == SQUARES:
            square = (gradient * gradient).astype(dtype)
            second = ((dtype(b2) * second).astype(dtype) + dtype(1 - b2) * square).astype(dtype)
        else:
            second = np.maximum((dtype(b2) * second).astype(dtype), np.abs(gradient))
    return first, second


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("form", [SQUARES, MAXIMUM])
@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.9, 0.95), (0.95, 0.95), (0.95, 0.9)])
def test_no_gradients_exceed_it(dtype: type, form: str, beta1: float, beta2: float) -> None:
    random = np.random.default_rng(7)
    steps = 60
    growth = (beta2 / beta1) ** np.arange(steps)[:, None]  # attains the bound, all of one sign
    cases = [
        random.standard_normal((steps, 50)),
        np.abs(random.standard_normal((steps, 50))) + 1,
        growth * np.ones(4),
        growth * random.uniform(0.9, 1.1, (steps, 50)),
        np.where(random.random((steps, 50)) < 0.03, 1.0, 0.0),
        random.standard_normal((steps, 50)) * (1e-4 if dtype is np.float16 else 1e-25),
    ]
    name = np.dtype(dtype).name
    betas = np.tile([beta1, beta2], (steps, 1))
    with np.errstate(all="ignore"):
        for gradients in cases:
            first, second = carried_out(gradients, betas, dtype, form)
            excess = bound(one(beta1, beta2), steps, name, form).excess(first, second)
            assert excess.max() <= 1.0
    # It is no wider than it must be.
    if form == SQUARES and dtype is np.float64:
        first, second = carried_out(cases[2], betas, dtype, form)
        assert bound(one(beta1, beta2), steps, name, form).excess(first, second).min() > 0.99


def test_betas_that_change_stay_within_the_bound_of_their_box() -> None:
    random = np.random.default_rng(3)
    box = Betas((0.85, 0.95), (0.9, 0.999))
    most = 0.0
    for _ in range(200):
        betas = np.stack([random.choice(box.first, 40), random.choice(box.second, 40)], axis=1)
        # The gradients that make most of these betas: each as much as its weight in m^2 / v.
        decay = np.cumprod((betas[:, 0] / betas[:, 1])[::-1])[::-1]
        weight = (1 - betas[:, 0]) / (1 - betas[:, 1]) * np.append(decay[1:], 1.0)
        first, second = carried_out(weight[:, None] * np.ones(1), betas, np.float64, SQUARES)
        excess = float(bound(box, 40, "float64", SQUARES).excess(first, second)[0])
        assert excess <= 1.0
        most = max(most, excess)
    assert most > 0.5


def test_what_underflows_is_allowed_for() -> None:
    limit = bound(one(0.9, 0.999), 100, "float32", SQUARES)
    zero = np.zeros(1, np.float32)
    assert limit.excess(np.array([1e-20], np.float32), zero) < 1  # of g = 1e-20, g^2 is 0
    assert limit.excess(np.array([1e-10], np.float32), zero) > 1e3


def test_long_moments_that_were_short_are_told() -> None:
    short = np.array([1.5, 0.25], np.float32)
    assert precision_of("float32", short) == "bfloat16"
    assert precision_of("float32", short, np.array([1 + 2**-10], np.float32)) == "float16"
    assert precision_of("float32", short, np.array([1 / 3], np.float32)) == "float32"
    assert precision_of("uint8") is None


def test_betas_of_groups() -> None:
    assert betas_of([{"betas": (0.9, 0.999)}]) == one(0.9, 0.999)
    assert betas_of([{"betas": [0.9, 0.999]}, {"betas": (0.8, 0.99)}]) == Betas(
        (0.8, 0.9), (0.99, 0.999)
    )
    cycled = {"betas": (0.9, 0.999), "base_momentum": 0.85, "max_momentum": 0.95}
    assert betas_of([cycled]) == Betas((0.85, 0.95), (0.999, 0.999))
    assert str(betas_of([cycled])) == "betas 0.85 to 0.95 and 0.999"
    for broken in ({}, {"betas": None}, {"betas": (0.9,)}, {"betas": (0.9, 1.0)}, {"betas": "x"}):
        assert betas_of([broken]) is None
    assert betas_of([]) is None


def evidence(first: list[float], second: list[float], **terms: object) -> Evidence:
    found = Evidence(terms_of(SQUARES, one(0.9, 0.999), 100, "float32"))
    found.add(np.array(first, np.float32), np.array(second, np.float32))
    return found


def test_evidence() -> None:
    squares = [0.1] * 8
    assert not evidence([0.1] * 8, squares).contradicts
    assert evidence([0.1] * 7 + [10.0], squares).beyond == 1
    assert evidence([0.0] * 8, squares).first_zero
    assert not evidence([0.0] * 7, squares[:7]).first_zero  # too few to say
    assert evidence([0.1] * 8, [-0.1] * 8).swapped
    assert not evidence([-0.1] * 8, [-0.1] * 8).swapped
    nothing = evidence([0.0] * 8, [0.0] * 8)
    assert not nothing.contradicts and nothing.alive == (False, False)
    assert evidence([math.nan, 0.1], [0.1, math.nan]).beyond == 0
    assert evidence([0.1], [0.0]).worst == math.inf
