"""A run whose saves lie at `step_N/trainer`, with a vision tower that nothing trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.check.finding import INFO
from dcpctl.check.many import check_many, find_targets
from dcpctl.check.options import CheckOptions
from dcpctl.errors import NotACheckpoint
from dcpctl.inspect.runs import list_runs
from dcpctl.model.opening import open_checkpoint
from tests.test_check.helpers import check


@pytest.fixture(scope="module")
def run(shared: Path) -> Path:
    return shared / "reports" / "prime-rl-visual-never-trained" / "run"


def test_what_no_save_has_was_never_trained(run: Path) -> None:
    (found,), _ = list_runs(run)
    assert [(save.name, save.step) for save in found.saves] == [("step_4", 4), ("step_2", 2)]
    assert sorted(found.never_trained) == [
        "visual.merger.bias",
        "visual.merger.weight",
        "visual.patch_embed.bias",
        "visual.patch_embed.weight",
    ]
    assert found.newest_complete == found.resume_from == found.saves[0]


def test_the_hint_names_the_newest_save(run: Path) -> None:
    with pytest.raises(NotACheckpoint) as caught:
        open_checkpoint(run)
    assert "2 saves" in str(caught.value.hint)
    assert "step_4" in str(caught.value.hint)


def test_the_second_save_says_that_it_was_never_there(run: Path) -> None:
    checked = check_many(find_targets(run), CheckOptions(torch="2.13", jobs=1))
    assert not any(result.errors for result in checked.results)
    (found,) = checked.results[1].findings
    assert (found.rule, found.severity) == ("DCP502", INFO)
    assert "have none in 'step_2' either: they never got a gradient" in found.message
    assert checked.runs[0].resume_from == run / "checkpoints" / "step_4"


def test_parts_that_were_never_trained_are_no_error(shared: Path) -> None:
    run = shared / "reports" / "prime-rl-visual-never-trained" / "run" / "checkpoints"
    alone = check(run / "step_4" / "trainer", "DCP5")
    assert [(f.rule, f.severity) for f in alone.findings] == [("DCP502", "warning")]
    assert "never got a gradient, or lost" in alone.findings[0].message
    after = check(run / "step_4" / "trainer", "DCP5", against=run / "step_2" / "trainer")
    assert [(f.rule, f.severity) for f in after.findings] == [("DCP502", "info")]
