"""State saved as rank-local plain tensors (flashoptim#3, TransformerEngine#2795)."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.faults import SHARE
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.surgery.reshard import Reshard
from tests.test_check.helpers import check


@pytest.mark.parametrize(
    ("name", "slots"),
    [
        ("ck-bug", {"exp_avg::quantized", "exp_avg_sq::quantized", "error_bits"}),
        ("ck-local-adamw", {"exp_avg", "exp_avg_sq"}),
        ("ck-local-custom", {"my_mom"}),
    ],
)
def test_one_ranks_share_is_an_error_and_the_verdict_says_so(
    shared: Path, name: str, slots: set[str]
) -> None:
    path = shared / "reports" / "flashoptim-fsdp2" / name
    with open_checkpoint(path) as checkpoint:
        view = OptimizerView(checkpoint)
        assert view.verdict == "partial"
        faults = {(fault.kind, fault.slot) for p in view.parameters for fault in p.faults}
        assert faults == {(SHARE, slot) for slot in slots}
        assert all(parameter.faults for parameter in view.parameters)
        assert "one rank's share" in view.sentence
    result = check(path, "DCP5")
    assert [(f.rule, f.severity) for f in result.findings] == [("DCP515", "error")]


def test_sharded_state_is_whole(shared: Path) -> None:
    path = shared / "reports" / "flashoptim-fsdp2" / "ck-fixed"
    with open_checkpoint(path) as checkpoint:
        assert OptimizerView(checkpoint).verdict == "complete"
    assert check(path).findings == ()


def test_another_layout_does_not_bring_the_other_shares_back(shared: Path) -> None:
    with open_checkpoint(shared / "reports/flashoptim-fsdp2/ck-bug") as checkpoint:
        outcome = Reshard(1).apply(Draft.of(checkpoint), open_checkpoint)
    assert any("one rank's share" in warning for warning in outcome.warnings)
