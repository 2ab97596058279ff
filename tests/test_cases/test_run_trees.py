"""Directory trees of frameworks: structure tells saves and runs, and a date is a date."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.check.many import check_many, find_targets
from dcpctl.check.options import CheckOptions
from dcpctl.inspect.runs import list_runs


@pytest.fixture(scope="module")
def trees(shared: Path) -> Path:
    return shared / "reports" / "run-trees"


@pytest.mark.parametrize(
    ("tree", "run", "saves"),
    [
        (
            "areal",
            "recover_checkpoint/default",
            ["epoch1epochstep4globalstep4", "epoch0epochstep2globalstep2"],
        ),
        ("prime_rl", "checkpoints", ["step_4", "step_2"]),
        (
            "ray_train",
            ".",
            [
                "checkpoint_2026-07-14_10-11-12.123456",
                "checkpoint_2026-07-12_10-11-12.123456",
            ],
        ),
        ("ray_train_new", ".", ["checkpoint_000001", "checkpoint_000000"]),
        ("skyrl", ".", ["global_step_4", "global_step_2"]),
    ],
)
def test_every_tree_is_a_run_of_two_saves(
    trees: Path, tree: str, run: str, saves: list[str]
) -> None:
    (found,), looked = list_runs(trees / tree)
    assert (found.path, looked.unread) == (trees / tree / run, {})
    assert [save.name for save in found.saves] == saves
    assert [save.step for save in found.saves] == [4, 2]
    assert [save.verdict for save in found.saves] == ["complete", "complete"]
    assert found.newest_complete == found.resume_from == found.saves[0]


def test_a_date_and_the_number_of_a_save_are_no_steps(trees: Path) -> None:
    for tree, unit in (("ray_train", "date"), ("ray_train_new", "number")):
        (found,), _ = list_runs(trees / tree)
        position = found.saves[0].position
        assert position is not None
        assert (position.unit, position.step) == (unit, None)
        assert found.saves[0].step_from == "the optimizer"


def test_nothing_is_wrong_in_any_of_them(trees: Path) -> None:
    checked = check_many(find_targets(trees), CheckOptions(torch="2.13", jobs=1))
    assert len(checked.results) == 10
    assert [result.findings for result in checked.results if result.findings] == []
    assert [run.resume_from and run.resume_from.name for run in checked.runs] == [
        "epoch1epochstep4globalstep4",
        "step_4",
        "checkpoint_2026-07-14_10-11-12.123456",
        "checkpoint_000001",
        "global_step_4",
    ]
