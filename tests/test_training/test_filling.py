"""Keys that a release introduced, filled by the rules of `dcpctl upgrade`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from dcpctl.training.filling import fill  # noqa: E402
from tests.test_model.fakes import FakeCheckpoint, from_state_dict, tensor  # noqa: E402

NEW = "decoupled_weight_decay"
ADAMW = ("lr", "betas", "eps", "weight_decay", "amsgrad", "foreach", "maximize", "capturable",
         "differentiable", "fused")  # fmt: skip
ADAM = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "foreach", "capturable",
        "differentiable", "fused")  # fmt: skip


def checkpoint(*groups: tuple[str, ...], slots: tuple[str, ...] = ("exp_avg", "exp_avg_sq")) -> Any:
    state = {"w": {slot: tensor(2) for slot in slots}}
    listed = [{**dict.fromkeys(keys, 0), "params": ["w"]} for keys in groups]
    return from_state_dict({"optimizer": {"state": state, "param_groups": listed}})


def path(group: int = 0, key: str = NEW) -> tuple[str | int, ...]:
    return ("optimizer", "param_groups", group, key)


def filled(stored: FakeCheckpoint, value: object, release: str = "2.13.0", **at: Any) -> Any:
    place = path(**at)
    fqn = ".".join(map(str, place))
    found = fill([fqn], {fqn: value}, {fqn: place}, stored, release)
    return found.values.get(fqn, "none"), found.doubts.get(fqn, "")


def test_what_the_order_of_the_keys_tells() -> None:
    assert filled(checkpoint(ADAMW), True) == (True, "")
    assert filled(checkpoint(ADAM), False) == (False, "")


def test_what_the_running_optimizer_contradicts() -> None:
    value, doubt = filled(checkpoint(ADAM), True)
    assert value == "none"
    assert "it is True in the running optimizer, while the checkpoint's, Adam, did what" in doubt
    assert filled(checkpoint(ADAMW), False)[0] == "none"


def test_what_only_the_running_optimizer_tells() -> None:
    either = checkpoint(tuple(sorted(ADAMW)))
    assert filled(either, True) == (True, "")
    assert filled(either, False) == (False, "")
    value, doubt = filled(either, None)
    assert value == "none"
    assert "for which it is never None" in doubt


def test_each_group_by_itself() -> None:
    both = checkpoint(ADAMW, ADAM)
    assert filled(both, True, group=0) == (True, "")
    assert filled(both, False, group=1) == (False, "")
    assert filled(both, True, group=2) == ("none", "")  # a group that the checkpoint lacks


@pytest.mark.parametrize("key", ["lr", "mine", "initial_lr", "params"])
def test_what_no_release_introduced(key: str) -> None:
    fewer = checkpoint(tuple(name for name in ADAMW if name != key))
    value, doubt = filled(fewer, 1, key=key)
    assert value == "none" or (key, value) == ("lr", 1)
    assert not doubt or key == "lr"


def test_a_release_that_does_not_have_the_key_fills_nothing() -> None:
    assert filled(checkpoint(ADAMW), True, release="2.6.0") == ("none", "")


def test_what_is_no_param_group() -> None:
    stored = checkpoint(ADAMW)
    for fqn in ("model.w", "optimizer.state.w.exp_avg", "optimizer.param_groups", "x"):
        found = fill([fqn], {}, {fqn: tuple(fqn.split("."))}, stored, "2.13")
        assert (found.values, found.doubts) == ({}, {})


def test_flattened_by_name() -> None:
    state = {f"state.w.{slot}": tensor(2) for slot in ("exp_avg", "exp_avg_sq")}
    groups = {f"param_groups.w.{key}": 0 for key in ADAMW}
    stored = from_state_dict({"optimizer": {**state, **groups}})
    fqn = f"optimizer.param_groups.w.{NEW}"
    place = ("optimizer", f"param_groups.w.{NEW}")
    assert fill([fqn], {fqn: True}, {fqn: place}, stored, "2.13").values == {fqn: True}


def test_an_optimizer_that_is_not_torchs() -> None:
    lion = checkpoint(("lr", "betas", "weight_decay"), slots=("exp_avg",))
    assert filled(lion, True) == ("none", "")


def test_the_legacy_sample_is_filled_as_upgrade_does(samples: Path) -> None:
    from dcpctl.model.draft import Draft
    from dcpctl.model.opening import open_checkpoint
    from dcpctl.surgery.upgrade import Upgrade
    from dcpctl.surgery.upgrade.engine import upgrade

    with open_checkpoint(samples / "legacy") as legacy:
        upgraded, _ = upgrade(Draft.of(legacy), Upgrade(torch="2.13"))
        new = [fqn for fqn in upgraded.entries if fqn not in legacy]
        assert new
        paths = {fqn: upgraded.planner_data[fqn] for fqn in new}
        found = fill(new, dict.fromkeys(new, True), paths, legacy, "2.13")
        assert found.values == {fqn: upgraded.entries[fqn].value for fqn in new}
