"""A gate of a mixture of experts that never gets a gradient (Automodel#2071)."""

from __future__ import annotations

from pathlib import Path

from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.coverage import NEVER_TRAINED
from dcpctl.model.optimizer.view import OptimizerView
from tests.test_check.helpers import check


def test_state_that_may_never_have_been_is_not_called_lost(shared: Path) -> None:
    path = shared / "reports" / "automodel-interrupted-latest" / "ok" / "epoch_0_step_20"
    with open_checkpoint(path) as checkpoint:
        view = OptimizerView(checkpoint)
        assert view.with_status(NEVER_TRAINED) == ("model.gate.weight",)
        assert "never got a gradient, or it was lost" in view.sentence
        assert "--fill-missing-state zeros" in view.sentence
        assert not view.flaws
    bare = [f for f in check(path, "DCP5").findings if f.rule != "DCP506"]
    assert [(f.rule, f.severity) for f in bare] == [("DCP502", "warning")]
    assert "--fill-missing-state zeros" in bare[0].message
