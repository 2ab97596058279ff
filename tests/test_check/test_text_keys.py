"""Keys of dicts that torch turned into text, and what stock torch does with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.test_check.helpers import check, the


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_what_torch_does_with_numbers_as_keys(torch: Any, tmp_path: Path) -> None:
    import torch.distributed.checkpoint as dcp

    saved = {"sched": {"milestones": {25: 1, 50: 2}}, "t": {0: torch.ones(2)}, "list": [{"a": 1}]}
    dcp.save(saved, checkpoint_id=tmp_path)
    asked = {"sched": {"milestones": {25: 0, 50: 0}}, "t": {0: torch.zeros(2)}, "list": [{"a": 0}]}
    dcp.load(asked, checkpoint_id=tmp_path)
    assert asked["sched"]["milestones"] == {25: 0, 50: 0, "25": 1, "50": 2}
    assert asked["t"][0].tolist() == [1.0, 1.0]  # a tensor is written into, whatever its key
    assert asked["list"] == [{"a": 1}]
    found = the(check(tmp_path, "DCP411"))
    assert (found.severity, found.subject) == ("warning", "sched.milestones.25")
    assert found.message.startswith("2 objects of 'sched.milestones' under keys that are numbers")


def test_names_with_numbers_and_lists_are_no_such_keys(samples: Path) -> None:
    assert check(samples / "healthy" / "step-8500", "DCP411").findings == ()
