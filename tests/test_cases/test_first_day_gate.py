"""A gate broken on purpose: the learning rate of the groups is a hundred times the scheduler's."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.check.finding import ERROR
from tests.test_check.helpers import check, the


@pytest.fixture(scope="module")
def gate(shared: Path) -> Path:
    return shared / "reports" / "first-day" / "gate"


def test_the_rate_that_no_scheduler_set(gate: Path) -> None:
    found = the(check(gate / "08-lr" / "step-30", "DCP520", against=gate / "08-lr" / "step-20"))
    assert (found.severity, found.subject) == (ERROR, "param_groups.lr")
    assert "lr is 0.3 for 19 parameters" in found.message
    assert "and not 0.00299993, which the scheduler set last; in 'step-20' it was" in found.message
    assert check(gate / "08-lr" / "step-20", "DCP520").findings == ()


@pytest.mark.parametrize("step", ["step-20", "step-30"])
def test_the_numbers_are_those_of_a_healthy_run(gate: Path, step: str) -> None:
    before = f"step-{int(step[5:]) - 10}"
    numbers = ("DCP508", "DCP512", "DCP513", "DCP517", "DCP519", "DCP610", "DCP611", "DCP612")
    result = check(gate / "08-lr" / step, *numbers, against=gate / "08-lr" / before, values=True)
    assert result.findings == ()
