"""A small sample of `tests.studies.moments`, whose error rates docs/studies/moments.md quotes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from tests.studies import moments  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_healthy_moments_are_healthy() -> None:
    judged = [
        one
        for run in moments.runs(1, 40, every=37)
        for one in moments.healthy(run, (1, 3, 19, 20, 21, 40))
    ]
    assert len(judged) > 200
    assert {one.optimizer for one in judged} == {cls.__name__ for cls in moments.OPTIMIZERS}
    assert {one.dtype for one in judged} == {"float32", "bfloat16", "float16"}
    assert [one for one in judged if one.found or one.found_since] == []


def test_damage_is_found() -> None:
    judged = [
        one
        for run in moments.runs(1, 40, every=len(moments.WAYS) * 9 + 1)
        for one in moments.damaged(run, (40,))
        if one.dtype == "float32"
    ]
    for damage in ("second moment zeroed", "moments swapped"):
        found = [
            one.found_since == "error"
            for one in judged
            if one.damage == damage and one.numbers >= 16
        ]
        assert len(found) >= 4 and sum(found) >= 0.9 * len(found)
