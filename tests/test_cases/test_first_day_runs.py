"""Two runs in one directory, and a scheduler that stayed behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.check.finding import ERROR
from dcpctl.check.many import check_many, find_targets
from dcpctl.check.options import CheckOptions
from dcpctl.inspect.runs import list_runs
from tests.test_check.helpers import check, the


@pytest.fixture(scope="module")
def case(shared: Path) -> Path:
    return shared / "reports" / "first-day"


def test_two_runs_are_two_runs(case: Path) -> None:
    runs, _ = list_runs(case / "two")
    assert [(run.path.name, [save.name for save in run.saves]) for run in runs] == [
        ("runA", ["step-20", "step-10"]),
        ("runB", ["step-30", "step-20"]),
    ]
    options = CheckOptions(torch="2.13", jobs=1, select=("DCP6xx",))
    checked = check_many(find_targets(case / "two"), options)
    assert [result.against and result.against.parent.name for result in checked.results] == [
        None,
        "runA",
        None,
        "runB",
    ]
    # What lies in runB is of two models, which is one finding and not one for each tensor.
    assert [f.rule for result in checked.results for f in result.findings] == ["DCP609"]


def test_a_scheduler_that_stayed_behind(case: Path) -> None:
    save = case / "gate" / "14-sched-behind" / "step-30"
    alone = the(check(save, "DCP506", "DCP514"))
    assert (alone.rule, alone.severity, alone.subject) == ("DCP514", ERROR, "scheduler.last_epoch")
    assert alone.message == (
        "last_epoch is 0 at step 30 of the optimizer, though the scheduler was stepped 30 times: "
        "it was set back, and the learning rate follows last_epoch"
    )
    found = the(check(save, "DCP514", against=save.parent / "step-20"))
    assert "the scheduler was restarted: last_epoch is 0 here and was 20" in found.message
