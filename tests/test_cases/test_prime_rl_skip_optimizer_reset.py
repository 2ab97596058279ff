"""A job resumed with a fresh optimizer while its scheduler and progress went on (prime-rl#2087)."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.check.finding import ERROR
from dcpctl.check.many import check_many, find_targets
from dcpctl.check.options import CheckOptions
from dcpctl.inspect.runs import list_runs
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from tests.test_check.helpers import check, the


@pytest.fixture(scope="module")
def case(shared: Path) -> Path:
    return shared / "reports" / "prime-rl-skip-optimizer-reset"


@pytest.mark.parametrize("save", ["run/step_24", "run/step_24/trainer", "run2/step_24"])
def test_every_witness_counts_whatever_its_path(case: Path, save: str) -> None:
    found = the(check(case / save, "DCP506", "DCP514"))
    assert (found.rule, found.severity) == ("DCP506", ERROR)
    assert found.message == (
        "the optimizer is at step 4; app.progress.step, the directory's name and "
        "app.scheduler.last_epoch say 24: it was reset or restored from an older save"
    )
    with open_checkpoint(case / save) as checkpoint:
        sentence = OptimizerView(checkpoint).sentence
    assert "seems to have been reset on the way" in sentence
    assert "at step 4, while app.progress.step is 24" in sentence


@pytest.mark.parametrize("run", ["run", "run2"])
def test_the_save_before_the_reset_is_offered(case: Path, run: str) -> None:
    (found,), _ = list_runs(case / run)
    assert [(newer.name, older.name) for newer, older in found.resets] == [("step_24", "step_20")]
    assert found.resume_from == found.saves[1]
    checked = check_many(find_targets(case / run), CheckOptions(torch="2.13", jobs=1))
    assert [(f.rule, f.severity) for one in checked.results for f in one.findings] == [
        ("DCP601", ERROR)
    ]
    assert checked.runs[0].resume_from == case / run / "step_20"
