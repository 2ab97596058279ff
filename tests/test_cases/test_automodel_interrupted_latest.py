"""A gate that never gets a gradient, an interrupted save, and LATEST (Automodel#2071)."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.check.finding import INFO, WARNING
from dcpctl.check.many import check_many, find_targets
from dcpctl.check.options import CheckOptions
from dcpctl.inspect.runs import list_runs
from dcpctl.inspect.summary import summarize
from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.upgrade.engine import upgrade
from dcpctl.writing.plan import plan
from dcpctl.writing.write import write


@pytest.fixture(scope="module")
def case(shared: Path) -> Path:
    return shared / "reports" / "automodel-interrupted-latest"


def test_a_run_of_healthy_saves(case: Path) -> None:
    (found,), _ = list_runs(case / "ok")
    assert [save.name for save in found.saves] == ["epoch_0_step_20", "epoch_0_step_10"]
    assert found.never_trained == {"model.gate.weight"}
    assert found.newest_complete == found.resume_from == found.saves[0]
    checked = check_many(find_targets(case / "ok"), CheckOptions(torch="2.13", jobs=1))
    severities = [(f.rule, f.severity) for one in checked.results for f in one.findings]
    assert severities == [("DCP502", WARNING), ("DCP502", INFO)]


def test_a_run_whose_newest_save_was_interrupted(case: Path) -> None:
    (found,), _ = list_runs(case / "ckpt")
    assert [save.verdict for save in found.saves] == ["interrupted", "partial"]
    assert found.pointers == {"LATEST": found.saves[1]}
    # What one save lacks may be lost; nothing says that it ever had it.
    assert found.newest_complete is None
    assert found.resume_from == found.saves[1]
    assert found.is_doubtful(found.saves[1])


def test_the_gate_gets_a_state_of_zeros_in_the_part_of_the_optimizer(
    case: Path, tmp_path: Path
) -> None:
    with open_checkpoint(case / "ok/epoch_0_step_10") as checkpoint:
        draft, steps = upgrade(Draft.of(checkpoint), Upgrade("2.13", fill_missing_state="zeros"))
        write(plan(draft, tmp_path / "filled"))
    notes = [step.note for step in steps if step.name == "missing-state"]
    assert notes == ["zeros for 'model.gate.weight': never given a gradient, or lost"]
    with open_checkpoint(tmp_path / "filled/optim") as part:
        moment = part["optim.state.model.gate.weight.exp_avg"].numpy()
    with open_checkpoint(tmp_path / "filled") as checkpoint:
        assert moment.shape == checkpoint.tensors["model.gate.weight"].shape
        assert not moment.any() and OptimizerView(checkpoint).verdict == "complete"
    assert (tmp_path / "filled/rng/rng_dp_rank_1.pt").is_file()


def test_a_part_alone_says_where_the_optimizer_is(case: Path) -> None:
    with open_checkpoint(case / "ok" / "epoch_0_step_20" / "model") as checkpoint:
        assert summarize(checkpoint).optimizer_beside == "optim"
    with open_checkpoint(case / "ok" / "epoch_0_step_20") as checkpoint:
        assert summarize(checkpoint).optimizer_beside == ""
