from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import NothingSelected, Refused, UsageError
from dcpctl.model.draft import Draft
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.surgery.drop import Drop, drop
from tests.test_surgery import oracle


def value(draft: Draft, fqn: str) -> Any:
    entry: Any = draft.entries[fqn]
    return entry.value


def test_what_matches_goes_and_nothing_else(healthy: Draft) -> None:
    outcome = drop(healthy, ["lr_scheduler.*", "train_state.step"])
    kept = [f for f in healthy.entries if not f.startswith(("lr_sch", "train_state.step"))]
    assert list(outcome.draft.entries) == kept
    assert outcome.draft.planner_data is not None
    assert sorted(outcome.draft.planner_data) == sorted(kept)
    assert all(entry.untouched for entry in outcome.draft.entries.values())
    assert not outcome.warnings


def test_a_name_is_all_below_it(healthy: Draft) -> None:
    made = drop(healthy, ["lr_scheduler"]).draft
    assert not any(fqn.startswith("lr_scheduler") for fqn in made.entries)


def test_state_stays_unless_asked_for(healthy: Draft) -> None:
    outcome = drop(healthy, ["model.layers.1"])
    assert "optimizer.state.layers.1.ffn_norm.weight.exp_avg" in outcome.draft.entries
    assert outcome.warnings == (
        "9 of the dropped parameters still have optimizer state; --with-state drops it too",
    )


def test_with_state(healthy: Draft) -> None:
    made = drop(healthy, ["model.layers.1"], with_state=True).draft
    assert not any("layers.1." in fqn for fqn in made.entries)
    for group in (0, 1):
        assert not any(
            "layers.1." in n for n in value(made, f"optimizer.param_groups.{group}.params")
        )
    view = OptimizerView(made)
    assert view.verdict == "complete"
    assert not view.not_in_model and not view.extra_state


def test_with_state_of_other_forms(opened: Callable[[Path], Draft], shared: Path) -> None:
    pickled = opened(shared / "checkpoints" / "2.2.2" / "fsdp2_list_fp32" / "ckpt")
    made = drop(pickled, ["model.layers.0"], with_state=True).draft
    names = [name for group in value(made, "optimizer.param_groups") for name in group["params"]]
    assert names and not any(name.startswith("layers.0.") for name in names)
    flat = opened(shared / "checkpoints" / "2.13.0" / "fsdp2_flat_fp32" / "ckpt")
    made = drop(flat, ["model.layers.0"], with_state=True).draft
    assert not any("layers.0." in fqn for fqn in made.entries)
    assert OptimizerView(made).verdict == "complete"


def test_state_without_its_names_is_warned_of(healthy: Draft) -> None:
    outcome = drop(healthy, ["*.exp_avg"])
    assert len(outcome.warnings) == 1
    assert outcome.warnings[0].startswith("21 parameters lose optimizer state and stay in params")


@pytest.mark.parametrize("section", ["model", "optimizer"])
def test_a_whole_section(healthy: Draft, section: str) -> None:
    outcome = drop(healthy, section=section)
    assert not any(fqn.startswith(f"{section}.") for fqn in outcome.draft.entries)
    assert len(outcome.draft.entries) == {"model": 99, "optimizer": 32}[section]


def test_globs_within_a_section(healthy: Draft) -> None:
    made = drop(healthy, ["*norm*"], section="model").draft
    assert "optimizer.state.norm.weight.exp_avg" in made.entries
    assert "model.norm.weight" not in made.entries


def test_refusals(healthy: Draft, samples: Path, opened: Callable[[Path], Draft]) -> None:
    with pytest.raises(NothingSelected, match="no key matches 'nothing', 'zip'"):
        drop(healthy, ["nothing", "lr_scheduler", "zip"])
    with pytest.raises(NothingSelected, match="no key matches 'lr_scheduler'"):
        drop(healthy, ["lr_scheduler"], section="model")
    with pytest.raises(Refused, match="nothing would be left"):
        drop(healthy, ["*"])
    with pytest.raises(UsageError, match="no keys"):
        drop(healthy)
    with pytest.raises(NothingSelected, match="has no optimizer"):
        drop(opened(samples / "model_only" / "step-8500"), section="optimizer")
    with pytest.raises(Refused, match="knows its parameters by their positions"):
        drop(opened(samples / "releases" / "2.1.2-optim_AdamW"), ["model.b"], with_state=True)


@pytest.mark.torch
@pytest.mark.parametrize("with_state", [False, True])
def test_torch_loads_what_is_left(samples: Path, tmp_path: Path, with_state: bool) -> None:
    pytest.importorskip("torch")
    source = samples / "healthy" / "step-8500"
    edit = Drop(("model.layers.1",), with_state=with_state)
    found = oracle.by_torch(oracle.made(source, tmp_path / "made", edit))
    truth = oracle.truth(source)
    gone = {fqn for fqn in truth if fqn.startswith("model.layers.1.")}
    if with_state:
        gone |= {fqn for fqn in truth if fqn.startswith("optimizer.state.layers.1.")}
        for group in (0, 1):
            fqn = f"optimizer.param_groups.{group}.params"
            truth[fqn] = [name for name in truth[fqn] if not name.startswith("layers.1.")]
    assert found == {fqn: held for fqn, held in truth.items() if fqn not in gone}
