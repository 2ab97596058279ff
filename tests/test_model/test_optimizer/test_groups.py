from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcpctl.model.optimizer.view import OptimizerView
from tests.test_model.fakes import from_expected
from tests.test_model.test_optimizer.jobs import (
    ADAM_ORDER,
    ADAMW_26_ORDER,
    adam_keys,
    adamw,
    flattened,
    job,
    nested,
)


def asked_for(group: dict[str, Any], target: str) -> list[tuple[int, str, object, bool]]:
    view = OptimizerView(job(nested(group)))
    return [(m.group, m.key, m.default, m.ambiguous) for m in view.missing_group_keys(target)]


def test_keys_that_a_newer_torch_asks_for() -> None:
    adamw_26, adam_26 = adam_keys(ADAMW_26_ORDER), adam_keys(ADAM_ORDER)
    assert asked_for(adamw_26, "2.6") == []
    assert asked_for(adamw_26, "2.13") == [(0, "decoupled_weight_decay", True, False)]
    assert asked_for(adam_26, "2.13") == [(0, "decoupled_weight_decay", False, False)]
    assert asked_for(adamw(), "2.13") == []


def test_a_default_that_depends_on_what_the_optimizer_was() -> None:
    unordered = adam_keys(" ".join(sorted(ADAM_ORDER.split())))
    assert asked_for(unordered, "2.13") == [(0, "decoupled_weight_decay", False, True)]
    view = OptimizerView(job(nested(unordered)))
    [missing] = view.missing_group_keys("2.13")
    assert missing.defaults == {"Adam": False, "AdamW": True}
    assert view.candidates == ("Adam", "AdamW")


def test_every_group_of_a_flattened_optimizer_once() -> None:
    decays = [adam_keys(ADAMW_26_ORDER, weight_decay=decay) for decay in (0.1, 0.0)]
    names = ["embed.weight", "head.weight"], ["layers.0.norm.weight"]
    parts = [flattened(group, names=n) for group, n in zip(decays, names, strict=True)]
    view = OptimizerView(job(parts[0] | parts[1]))
    assert [(m.group, m.key) for m in view.missing_group_keys("2.13")] == [
        (0, "decoupled_weight_decay"),
        (1, "decoupled_weight_decay"),
    ]
    assert not view.param_groups_pickled


def test_nothing_is_said_of_optimizers_that_are_not_torchs() -> None:
    assert asked_for({"lr": 1e-3, "unheard_of": 1}, "2.13") == []
    fused = {"lr": 1e-3, "bias_correction": True, "betas": (0.9, 0.95), "eps": 1e-8}
    assert asked_for(fused | {"weight_decay": 0.1}, "2.13") == []


@pytest.mark.parametrize(
    ("case", "pickled", "keys"),
    [
        ("2.2.2/fsdp2_list_fp32", True, {"decoupled_weight_decay"}),
        ("2.4.1/fsdp2_flat_fp32", False, {"decoupled_weight_decay"}),
        ("2.6.0/single_raw_osd_fp32", False, {"decoupled_weight_decay"}),
        ("2.9.1/fsdp2_flat_fp32", False, set()),
        ("2.0.1/optim_Adagrad", True, {"fused"}),
        ("2.2.2/optim_RAdam", True, {"capturable", "maximize"}),
    ],
)
def test_what_2_13_misses_in_real_checkpoints(
    shared: Path, case: str, pickled: bool, keys: set[str]
) -> None:
    view = OptimizerView(from_expected(shared / "checkpoints" / case / "expected.json"))
    assert view.param_groups_pickled is pickled
    missing = view.missing_group_keys("2.13")
    assert {item.key for item in missing} == keys
    assert not any(item.ambiguous for item in missing)


def test_hyperparameters_may_be_tensors(shared: Path) -> None:
    view = OptimizerView(from_expected(shared / "checkpoints/2.13.0/lr_tensor/expected.json"))
    assert [round(float(str(g.values["lr"])), 6) for g in view.param_groups] == [3e-4, 3e-4]
