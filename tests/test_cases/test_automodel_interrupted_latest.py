"""A gate that never gets a gradient, an interrupted save, and LATEST (Automodel#2071)."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.check.finding import INFO, WARNING
from dcpctl.check.many import check_many, find_targets
from dcpctl.check.options import CheckOptions
from dcpctl.inspect.runs import list_runs


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
