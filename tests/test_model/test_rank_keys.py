"""Keys that each rank keeps for itself."""

from __future__ import annotations

import pytest

from dcpctl.model.rank_keys import rank_keys, world_sizes


@pytest.mark.parametrize(
    ("keys", "savers", "expected"),
    [
        (["dataloader.dp_rank_0", "dataloader.dp_rank_1"], 2, {"dataloader.dp_rank_#": (0, 1)}),
        (["loader.rank0.a", "loader.rank0.b"], 4, {"loader.rank#": (0,)}),
        (["rng.0", "rng.1", "rng.2"], 3, {"rng.#": (0, 1, 2)}),
        (["rng.0", "rng.1"], 3, {}),  # two of something
        (["rng-state-0", "rng-state-1"], 2, {"rng-state-#": (0, 1)}),
        (["epoch"], 2, {}),
    ],
)
def test_groups(keys: list[str], savers: int, expected: dict[str, tuple[int, ...]]) -> None:
    found = rank_keys(dict.fromkeys(keys, "other"), savers)
    assert {one.pattern: one.ranks for one in found} == expected


def test_layers_of_the_model_are_no_ranks() -> None:
    of = {"model.layers.0.w": "model", "model.layers.1.w": "model", "optim.state.0": "optimizer"}
    assert rank_keys(of, 2) == ()


def test_numbers_of_ranks() -> None:
    of = dict.fromkeys(
        ["world_size", "train.dp_world_size", "batch_size", "args.worldsize"], "other"
    )
    assert list(world_sizes(of)) == ["world_size", "train.dp_world_size", "args.worldsize"]
