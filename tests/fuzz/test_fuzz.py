"""A bounded fuzzing run; `python -m tests.fuzz --minutes 10` runs longer."""

from __future__ import annotations

import random
import time

import pytest

from tests.fuzz.mutate import mutated
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

#: Inputs a seed, as many as take about a second.
INPUTS = {
    "metadata": 60,
    "value": 6000,
    "item": 1500,
    "safetensors": 1500,
    "zstd": 500,
    "walk": 1500,
}
SECONDS = 5


@pytest.fixture(scope="module")
def inputs() -> dict[str, list[bytes]]:
    return seeds()


@pytest.mark.parametrize("target", TARGETS)
def test_the_seeds_are_read(target: str, inputs: dict[str, list[bytes]]) -> None:
    assert inputs[target]
    for data in inputs[target]:
        TARGETS[target](data)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_but_named_errors(target: str, seed: int, inputs: dict[str, list[bytes]]) -> None:
    rng = random.Random(seed)
    for _ in range(INPUTS[target]):
        data = mutated(inputs[target], rng)
        start = time.process_time()
        TARGETS[target](data)
        assert time.process_time() - start < SECONDS, data[:100]
