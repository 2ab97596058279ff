"""A model whose visual part never gets a gradient; the saves lie at `step_N/trainer`."""

from __future__ import annotations

from pathlib import Path

from tests.test_check.helpers import check


def test_parts_that_were_never_trained_are_no_error(shared: Path) -> None:
    run = shared / "reports" / "prime-rl-visual-never-trained" / "run" / "checkpoints"
    alone = check(run / "step_4" / "trainer", "DCP5")
    assert [(f.rule, f.severity) for f in alone.findings] == [("DCP502", "warning")]
    assert "never got a gradient, or lost" in alone.findings[0].message
    after = check(run / "step_4" / "trainer", "DCP5", against=run / "step_2" / "trainer")
    assert [(f.rule, f.severity) for f in after.findings] == [("DCP502", "info")]
