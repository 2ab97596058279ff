"""Layers by their numbers: stages and gaps."""

from __future__ import annotations

import pytest

from dcpctl.model.stages import Stages, find_stages, missing_numbers, numbered


def holders(order: list[int], prefix: str = "model.blocks", tensors: int = 2) -> dict[str, int]:
    return {
        f"{prefix}.{layer}.w{number}": rank
        for layer, rank in enumerate(order)
        for number in range(tensors)
    }


@pytest.mark.parametrize(
    ("order", "stages"),
    [
        ([0, 0, 1, 1], Stages(2, 1)),
        ([0, 1, 0, 1], Stages(2, 2)),
        ([0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2], Stages(3, 2)),
        ([3, 2, 1, 0], Stages(4, 1)),  # in whatever order
        ([0, 1, 1, 0], Stages(2, 2)),  # the V-shaped schedules
        ([0, 0, 0, 0], None),
    ],
)
def test_stages_are_told_from_who_wrote_which_block(order: list[int], stages: Stages) -> None:
    assert find_stages(holders(order)) == stages
    assert find_stages(holders(order, "net.encoder.stack")) == stages


def test_tensors_of_a_block_on_several_ranks_are_no_stages() -> None:
    assert find_stages({"h.0.a": 0, "h.0.b": 1, "h.1.a": 0, "h.1.b": 1}) is None
    by_chance = {"m.h.0.a": 0, "m.h.0.b": 0, "m.h.1.a": 1, "m.h.1.b": 1}
    assert find_stages(by_chance) == Stages(2, 1)
    assert find_stages({**by_chance, "optim.state.h.0.a.exp_avg": 1}) is None


def test_indices_are_no_blocks() -> None:
    state = {f"optimizer.state.{i}.{slot}": i % 2 for i in range(8) for slot in ("m", "v")}
    assert find_stages(state) is None


def test_the_first_number_of_a_name_counts() -> None:
    assert numbered("layers.3.experts.0.w") == ("layers", 3, "experts.0.w")
    assert numbered("embed.weight") is None
    assert numbered("a.0") is None
    assert numbered("0.weight") is None


def blocks(numbers: list[int], prefix: str, *rests: str) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.{number}.{rest}": (4, 4) for number in numbers for rest in rests}


@pytest.mark.parametrize(
    ("shapes", "missing"),
    [
        (blocks([0, 2, 4], "model.stack", "attn.wq.weight"), [(1, 3)]),
        (blocks([0, 1, 2, 6, 7], "transformer.h", "mlp.up.weight", "ln.weight"), [(3, 4, 5)]),
        (blocks([4, 5, 6], "layers", "a.weight"), []),  # a part of a model from 4 on
        (blocks([0, 2, 4, 6], "net", "weight", "bias"), []),  # a Sequential with activations
        (blocks([0, 2, 4, 6], "model.layers", "weight", "bias"), [(1, 3, 5)]),
        (blocks([0, 2, 4], "model.layers", "weight", "bias"), []),
        (blocks([0, 1, 2, 3], "layers", "a.weight"), []),
    ],
)
def test_numbers_that_are_missing(
    shapes: dict[str, tuple[int, ...]], missing: list[tuple[int, ...]]
) -> None:
    assert [gap.missing for gap in missing_numbers(shapes)] == missing


def test_blocks_that_differ_are_no_regular_numbering() -> None:
    shapes = blocks([0, 2, 4], "layers", "a.weight") | {"layers.2.b.weight": (3,)}
    assert missing_numbers(shapes) == []
