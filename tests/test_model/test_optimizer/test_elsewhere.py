"""Optimizers from elsewhere in whole checkpoints: verdict, group keys, and state that is lost."""

from __future__ import annotations

from typing import Any

import pytest

from dcpctl.model.optimizer.view import OptimizerView
from tests.test_model.fakes import from_state_dict, tensor

MODEL = {"a.weight": tensor(8, 4), "emb.weight": tensor(8, 4)}
HIDDEN = "__bnb_optimizer_quant_state__"


def view(
    state: dict[str, Any], *groups: dict[str, Any], model: dict[str, Any] = MODEL
) -> OptimizerView:
    optimizer = {"state": state, "param_groups": list(groups)}
    return OptimizerView(from_state_dict({"model": model, "optimizer": optimizer}))


def dion(algorithm: str, name: str) -> dict[str, Any]:
    numbers = {"lr": 0.01, "mu": 0.95, "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8}
    return {"params": [name], **numbers, "algorithm": algorithm, "step": 5, "flatten": False}


def test_dions_groups_keep_what_their_algorithm_keeps() -> None:
    moment = tensor(8, 4)
    groups = dion("muon", "a.weight"), dion("adamw", "emb.weight")
    state = {"a.weight": {"momentum": moment}, "emb.weight": {"momentum": moment}}
    whole = view({**state, "emb.weight": {"momentum": moment, "variance": moment}}, *groups)
    assert (whole.kind, whole.verdict) == ("Muon (Dion)", "complete")
    assert whole.missing_group_keys("2.13") == []
    lost = view(state, *groups)
    assert [(gone.fqn, gone.slot) for gone in lost.missing] == [("emb.weight", "variance")]


@pytest.mark.parametrize("hidden", [True, False])
def test_bitsandbytes_before_and_after_its_state_is_wrapped(hidden: bool) -> None:
    codes, scales = tensor(8, 4, dtype="uint8"), tensor(4)
    slots = {"state1": codes, "qmap1": scales, "absmax1": scales}
    slots |= {"state2": codes, "qmap2": scales, "absmax2": scales}
    state: dict[str, Any] = {"step": 3, HIDDEN: slots} if hidden else {"step": 3, **slots}
    keys = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0, "alpha": 0.0}
    names = list(MODEL)
    found = view(dict.fromkeys(names, state), {"params": names, **keys})
    assert (found.kind, found.verdict) == ("8-bit Adam or AdamW (bitsandbytes)", "complete")
    assert found.slots["state2"].present == 2
    assert found.missing_group_keys("2.13") == []


@pytest.mark.parametrize(("train_mode", "notes"), [(True, 1), (False, 0)])
def test_schedule_free_saved_in_train_mode_has_a_note(train_mode: bool, notes: int) -> None:
    keys = {"lr": 0.1, "betas": (0.9, 0.99), "weight_lr_power": 2.0, "lr_max": 0.1, "k": 3}
    state = {name: {"z": tensor(8, 4), "exp_avg_sq": tensor(8, 4)} for name in MODEL}
    found = view(state, {"params": list(MODEL), **keys, "train_mode": train_mode})
    assert found.kind == "AdamWScheduleFree"
    assert sum("Saved in train mode" in note for note in found.notes) == notes


@pytest.mark.parametrize("slot", ["t1.momentum1", "t1.weight.momentum_1"])
def test_torchrecs_slots_are_named_after_their_tables(slot: str) -> None:
    name = "ebc.embedding_bags.t1.weight"
    group = {"params": [name], "lr": 0.1}
    found = view({name: {slot: tensor(8)}}, group, model={name: tensor(8, 4)})
    assert [parameter.name for parameter in found.parameters] == [name]
    assert list(found.slots) == [slot.rpartition(".")[2]]
    assert (found.verdict, "TorchRec" in str(found.kind)) == ("complete", True)


def test_groups_like_adams_without_torchs_keys_ask_for_none_of_them() -> None:
    state = {
        name: {"step": 3, "exp_avg": tensor(8, 4), "exp_avg_sq": tensor(8, 4)} for name in MODEL
    }
    keys = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False}
    found = view(state, {"params": list(MODEL), **keys})
    assert found.verdict == "complete"
    assert found.missing_group_keys("2.13") == []
    torchs = view(state, {"params": list(MODEL), **keys, "foreach": None, "maximize": False})
    assert "capturable" in {key.key for key in torchs.missing_group_keys("2.13")}
