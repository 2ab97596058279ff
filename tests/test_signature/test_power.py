"""`healthy` is said where a reset would have shown; losses with twins are compared by rank."""

from __future__ import annotations

import random
from itertools import product

import pytest

from dcpctl.signature.engine import Diagnosis, diagnose
from dcpctl.signature.power import LEAST_RISE, least_rise, power_of, twins_of
from dcpctl.signature.robust import signed_rank
from tests.test_signature.making import log_of, noisy, run


def paired(differences: list[float], *, scatter: float = 0.05, seed: int = 1) -> Diagnosis:
    """100 rows, some more that are thrown away, and a process that repeats these."""
    draw = random.Random(seed)
    before = noisy(1.2, 100, seed, scatter)
    thrown = noisy(1.2, len(differences), seed + 1, scatter)
    again = [loss * (1 + more) for loss, more in zip(thrown, differences, strict=True)]
    rest = noisy(1.2, 100 - len(differences), seed + 2, scatter)
    steps = [*range(100 + len(differences)), *range(100, 200)]
    losses = [*before, *thrown, *again, *rest]
    rows = [
        {"step": float(step), "loss": loss, "grad_norm": 0.6 + draw.gauss(0, 0.03), "lr": 1e-3}
        for step, loss in zip(steps, losses, strict=True)
    ]
    (one,) = diagnose(log_of(rows, None)).diagnoses
    assert one.evidence.replayed == len(differences)
    return one


def test_twelve_of_twelve_higher() -> None:
    """By 1%, a fifth of what batches scatter by; the first loss is the same, as weights are."""
    draw = random.Random(3)
    one = paired([0.0, *(draw.uniform(0.004, 0.02) for _ in range(12))])
    assert one.verdict.name == "lost-optimizer"
    assert any("12 of 12 losses after the first are higher" in why for why in one.verdict.reasons)
    assert not one.match.ok


def test_twelve_of_twelve_lower() -> None:
    draw = random.Random(3)
    one = paired([0.0, *(-draw.uniform(0.004, 0.02) for _ in range(12))])
    assert one.verdict.name == "lost-optimizer"
    assert "lower than that of the process before" in one.verdict.sentence


@pytest.mark.parametrize("noise", [0.0, 1e-4, 2e-3])
def test_the_same_losses_again(noise: float) -> None:
    """Sums in another order differ a little, and to no side."""
    draw = random.Random(5)
    one = paired([0.0, *(draw.gauss(0, noise) for _ in range(29))])
    assert one.verdict.name == "healthy"
    assert one.match.ok
    twins = twins_of(one.evidence)
    assert twins is not None
    assert twins.chance > 0.05


def test_differences_without_a_side_are_rarely_called_a_reset() -> None:
    draw = random.Random(7)
    called = [
        paired([0.0, *(draw.gauss(0, 0.003) for _ in range(29))], seed=seed).verdict.name
        for seed in range(60)
    ]
    assert called.count("lost-optimizer") <= 2
    assert set(called) <= {"healthy", "inconclusive", "lost-optimizer"}


def test_little_and_to_one_side_is_not_called_healthy() -> None:
    draw = random.Random(9)
    one = paired([0.0, *(draw.uniform(0.0, 0.002) for _ in range(20))])
    assert one.verdict.name == "inconclusive"
    assert "to one side" in one.verdict.sentence


def test_other_weights_show_in_the_first_loss() -> None:
    draw = random.Random(11)
    one = paired([0.05, *(draw.gauss(0, 0.001) for _ in range(20))])
    assert one.verdict.name == "recovered"
    assert "weights" in one.verdict.sentence


@pytest.mark.parametrize("scatter", [0.003, 0.02, 0.06])
def test_what_scatters_hides(scatter: float) -> None:
    """Without twins a percent is no change yet, and a mild reset moves the loss by less."""
    one = run(noisy(1.2, 200, 1, scatter), noisy(0.6, 200, 2), resume=100)
    power = power_of(one.evidence)
    assert power is not None
    assert not power.enough
    assert power.scatter == pytest.approx(scatter, rel=0.4)
    assert one.verdict.name == "inconclusive"
    assert f"scatter by {power.scatter:.1%}" in one.verdict.sentence
    assert f"as little as {LEAST_RISE[20] / 2:.1%}" in one.verdict.sentence


def test_rows_of_many_steps_hide_more() -> None:
    """What a reset does is over after some 100 steps: rows of 10 steps each hold little of it."""
    rows = [
        {"step": 10.0 * row, "loss": loss, "lr": 1e-3}
        for row, loss in enumerate(noisy(1.2, 200, 1, 0.003))
    ]
    (one,) = diagnose(log_of(rows, 100)).diagnoses
    power = power_of(one.evidence)
    assert power is not None
    assert power.moves == pytest.approx(LEAST_RISE[100] / 4)
    assert one.verdict.name == "inconclusive"


def test_rises_between_those_measured() -> None:
    assert least_rise(1) == LEAST_RISE[10]
    assert LEAST_RISE[30] > least_rise(40) > LEAST_RISE[50]
    assert least_rise(1_000) == pytest.approx(LEAST_RISE[100] / 10)


def test_signed_ranks_are_those_of_all_signs() -> None:
    values = [0.5, -1.0, 1.5, 2.0, 2.5, -3.0]
    ranks = range(1, 7)

    def far(signs: tuple[int, ...]) -> int:
        up = sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign > 0)
        return max(up, 21 - up)

    mine = far(tuple(1 if value > 0 else -1 for value in values))
    every = [far(signs) >= mine for signs in product((1, -1), repeat=6)]
    assert signed_rank(values) == pytest.approx(sum(every) / len(every))
    assert signed_rank([0.0, 0.0]) == 1.0
    assert signed_rank([1.0] * 40) < 1e-6
    assert signed_rank([1.0, -1.0] * 20) > 0.5
