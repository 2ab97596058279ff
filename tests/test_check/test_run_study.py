"""A small sample of `tests.studies.resets`, whose error rates docs/studies/resets.md quotes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from tests.studies import resets, runs  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "model", "beta2"),
    [
        ("warm-up and cosine to zero", runs.Dense, 0.95),
        ("loss 100 times larger for 2 % of the run", runs.Dense, 0.999),
        ("loss 10 times smaller at half", runs.Language, 0.95),
        ("a layer is frozen, and freed at half", runs.Dense, 0.999),
        ("bfloat16 weights and moments", runs.Language, 0.999),
    ],
)
def test_healthy_runs_are_healthy(name: str, model: type[torch.nn.Module], beta2: float) -> None:
    (way,) = (way for way in runs.WAYS if way.name == name)
    judged = list(resets.healthy(way, model, beta2, 7, (5, 20, 60), 150))
    assert len(judged) > 40
    assert [one for one in judged if one.said is not None] == []


@pytest.mark.parametrize("model", [runs.Dense, runs.Language])
@pytest.mark.parametrize("beta2", [0.95, 0.999])
def test_resets_are_found_and_dated(model: type[torch.nn.Module], beta2: float) -> None:
    judged = list(resets.broken(runs.WAYS[0], model, beta2, 7, (2, 10, 20), 150))
    assert len(judged) == 9
    assert all(one.said is not None and one.said.proved for one in judged)
    dated = [one.said.since for one in judged if one.said is not None]
    ranges = zip(judged, dated, strict=True)
    within = sum(since is not None and since[1] <= one.since <= since[2] for one, since in ranges)
    assert within >= 8
