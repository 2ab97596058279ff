from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dcpctl.model.optimizer.catalogue import SlotRule, catalogue, version_key
from tools import make_optimizer_data


def test_releases_and_versions() -> None:
    assert version_key("2.13.0+cpu") == (2, 13, 0)
    assert version_key("2.14.0a0+git123") == (2, 14, 0)
    assert version_key("2.13") == (2, 13)
    assert catalogue().release_for("2.13") == "2.13.0"
    assert catalogue().release_for("2.7.0") == "2.7.1"
    assert catalogue().release_for("2.99") == catalogue().releases[-1]
    assert catalogue().release_for("1.0") == "1.13.1"


def test_keys_and_defaults_of_a_release() -> None:
    adamw = catalogue().torch["AdamW"]
    assert "decoupled_weight_decay" not in adamw.keys_at("2.6.0")
    assert adamw.keys_at("2.7.1")[-1] == "decoupled_weight_decay"
    assert adamw.keys["decoupled_weight_decay"].default_at("2.13.0") is True
    assert catalogue().torch["Adam"].keys["betas"].default_at("2.0.1") == (0.9, 0.999)
    fused = catalogue().torch["Adam"].keys["fused"]
    assert (fused.default_at("1.13.1"), fused.default_at("2.13.0")) == (False, None)
    lr = catalogue().torch["SGD"].keys["lr"]
    assert (lr.default_at("2.1.2"), lr.default_at("2.2.2")) == (None, 0.001)


def test_slot_rules_that_depend_on_hyperparameters_and_dimensions() -> None:
    torch = catalogue().torch
    assert torch["Adam"].slots["max_exp_avg_sq"] == SlotRule("param", when=("amsgrad",))
    assert torch["SGD"].slots == {"momentum_buffer": SlotRule("param", when=("momentum",))}
    assert torch["RMSprop"].slots["grad_avg"].when == ("centered",)
    assert torch["Adafactor"].slots["row_var"].min_ndim == 2
    assert torch["Adafactor"].slots["variance"].max_ndim == 1
    assert torch["Muon"].slots["momentum_buffer"].min_ndim == 2
    assert torch["LBFGS"].global_state
    row, variance = torch["Adafactor"].slots["row_var"], torch["Adafactor"].slots["variance"]
    assert row.holds_for({}, 3) and not row.holds_for({}, 1) and not row.holds_for({}, None)
    assert variance.holds_for({}, 0) and not variance.holds_for({}, 2)


def test_the_committed_file_is_what_the_catalogue_gives(shared: Path) -> None:
    releases = json.loads((shared / "catalog" / "optimizers_by_release.json").read_text())
    committed = json.loads(make_optimizer_data.TARGET.read_text())
    assert make_optimizer_data.build(releases) == committed


def test_the_committed_file_says_what_the_installed_torch_does(torch: ModuleType) -> None:
    release, found = make_optimizer_data.observe_installed()
    made: dict[str, Any] = make_optimizer_data.build({release: found})["optimizers"]
    for name, facts in made.items():
        known = catalogue().torch[name]
        assert set(facts["slots"]) <= set(known.slots), name
        assert facts["order"][-1][1] == list(known.keys_at(catalogue().release_for(release)))
        rules = json.loads(make_optimizer_data.TARGET.read_text())["optimizers"][name]["slots"]
        for slot, rule in facts["slots"].items():
            assert rule == rules[slot], (name, slot)


def test_a_newer_release_is_added_to_the_file() -> None:
    data = json.loads(make_optimizer_data.TARGET.read_text())
    adam = data["optimizers"]["Adam"]
    defaults = {key: values[-1][1] for key, values in adam["keys"].items()} | {"new_key": 7}
    facts = {
        "defaults": defaults,
        "defaults_order": list(defaults),
        "state_detail": {"default": {"0": {"step": {"type": "tensor", "shape": []}}}},
    }
    before = json.dumps(data)
    assert json.dumps(make_optimizer_data.add_release(data, "2.0.1", {"Adam": facts})) == before
    data = make_optimizer_data.add_release(data, "99.1.0", {"Adam": facts})
    assert data["releases"][-1] == "99.1.0"
    assert data["optimizers"]["Adam"]["keys"]["new_key"] == [["99.1.0", 7]]
    assert data["optimizers"]["Adam"]["keys"]["fused"] == adam["keys"]["fused"]
    assert data["optimizers"]["Adam"]["order"][-1][0] == "99.1.0"


@pytest.mark.parametrize("slot", ["exp_avg", "momentum_buffer", "fp32_param", "state1", "GG"])
def test_known_slots(slot: str) -> None:
    assert slot in catalogue().known_slots()
