"""One optimizer per parameter, for a step in the backward pass (torchtune#2006)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dcpctl.model import rename_rules as rules
from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.surgery.drop import drop
from dcpctl.surgery.names.renamer import rename
from dcpctl.surgery.select import select
from dcpctl.surgery.set import Assignment, assignment
from dcpctl.surgery.settings.add import add
from dcpctl.surgery.settings.assign import assign
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.upgrade.engine import upgrade


@pytest.fixture
def draft(shared: Path) -> Iterator[Draft]:
    path = shared / "reports" / "torchtune-opt-in-bwd" / "bwd" / "epoch_0"
    with open_checkpoint(path) as checkpoint:
        yield Draft.of(checkpoint)


def test_it_is_read_as_one_optimizer(draft: Draft) -> None:
    view = OptimizerView(draft)
    assert (view.verdict, view.kind, view.roots) == ("complete", "AdamW", ("optimizer",))
    assert view.style == "one optimizer per parameter"
    assert (len(view.parameters), view.steps) == (6, {4: 6})
    (group,) = view.param_groups
    assert (group.values["lr"], len(group.params)) == (0.001, 6)
    assert view.notes == ()


def test_state_and_groups_are_renamed_dropped_and_selected_together(draft: Draft) -> None:
    made = rename(draft, [rules.literal("layers.0=blocks.0")]).draft
    assert not [fqn for fqn in made.entries if "layers.0" in fqn]
    assert sum("blocks.0" in fqn for fqn in made.entries) == 2 + 2 * 15
    planner = made.planner_data or {}
    moved = planner["optimizer.blocks.0.weight.param_groups.0.lr"]
    assert moved == ("optimizer", "blocks.0.weight", "param_groups", 0, "lr")
    left = drop(draft, ["model.layers.0"], with_state=True).draft
    assert not [fqn for fqn in left.entries if "layers.0" in fqn]
    kept = select(draft, ["model.layers.0"], with_state=True).draft
    assert len(kept.entries) == 2 + 2 * 15
    assert all("layers.0" in fqn for fqn in kept.entries)


def test_hyperparameters_are_set_in_all_of_them(draft: Draft) -> None:
    assert len(assign(draft, [assignment("lr=0.5")]).changes) == 6
    wanted = Assignment("optimizer.param_groups.*.initial_lr", 0.1)
    made, changes, _ = add(draft, [wanted])
    assert len(changes) == 6
    assert "optimizer.layers.0.bias.param_groups.0.initial_lr" in made.entries
    (group,) = OptimizerView(made).param_groups
    assert group.values["initial_lr"] == 0.1


def test_another_way_to_name_parameters_can_be_had(draft: Draft) -> None:
    made, _ = upgrade(draft, Upgrade("2.13", optimizer_keys="fqn"))
    view = OptimizerView(made)
    assert (view.verdict, view.style) == ("complete", "one entry per parameter and slot")
    assert [len(group.params) for group in view.param_groups] == [6]
    flat, _ = upgrade(draft, Upgrade("2.13", optimizer_keys="flat"))
    assert "optimizer.param_groups.layers.0.bias.lr" in flat.entries
    index, _ = upgrade(draft, Upgrade("2.13", optimizer_keys="index"))
    assert "optimizer.state.5.exp_avg" in index.entries


@pytest.mark.torch
def test_torch_loads_what_a_rename_makes(shared: Path, tmp_path: Path, torch: object) -> None:
    from dcpctl.surgery.rename import Rename
    from tests.test_surgery import oracle

    path = shared / "reports" / "torchtune-opt-in-bwd" / "bwd" / "epoch_0"
    before = oracle.by_torch(path)
    rule = rules.literal("layers.0=blocks.0")
    after = oracle.by_torch(oracle.made(path, tmp_path / "new", Rename((rule,))))
    assert {fqn.replace("layers.0", "blocks.0"): value for fqn, value in before.items()} == after
