"""The summary, the files and the runs of real checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dcpctl.inspect.files import survey_files
from dcpctl.inspect.runs import list_run
from dcpctl.inspect.summary import summarize
from dcpctl.model.opening import open_checkpoint


def test_healthy(samples: Path) -> None:
    with open_checkpoint(samples / "healthy" / "step-8500") as checkpoint:
        summary = summarize(checkpoint)
        assert summary.optimizer.verdict == "complete"
        assert [share.name for share in summary.sections] == [
            *("model", "optimizer", "scheduler", "other")
        ]
        assert sum(share.tensors + share.objects for share in summary.sections) == len(checkpoint)
        assert sum(share.nbytes for share in summary.sections) == summary.nbytes
        assert summary.layouts.words == "FSDP 4-way, dim 0; 1 whole"
        assert summary.absent_files == ()


def test_shard_files_that_are_not_there(samples: Path, tmp_path: Path) -> None:
    copy = tmp_path / "step"
    shutil.copytree(samples / "healthy" / "step-8500", copy)
    (copy / "__2_0.distcp").unlink()
    with open_checkpoint(copy) as checkpoint:
        summary = summarize(checkpoint)
        assert summary.absent_files == ("__2_0.distcp",)
        survey = survey_files(checkpoint)
    assert [share.rank for share in survey.ranks] == [0, 1, 2, 3]
    assert all(share.nbytes for share in survey.ranks)  # described, where not on disk


def test_balance(samples: Path) -> None:
    with open_checkpoint(samples / "fsdp_tp_2x2") as checkpoint:
        survey = survey_files(checkpoint)
    assert sum(share.balance for share in survey.ranks) == pytest.approx(len(survey.ranks))
    assert survey.imbalance == max(share.balance for share in survey.ranks)
    assert sum(share.items for share in survey.ranks) == sum(file.items for file in survey.files)


def test_a_run_is_listed_newest_first_whatever_is_in_it(samples: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step, sample in ((10, "healthy/step-8500"), (20, "interrupted"), (30, "hostile"),
                         (40, "model_only/step-8500")):  # fmt: skip
        shutil.copytree(samples / sample, run / f"step-{step}")
    saves = list(list_run(run))
    assert [(save.step, save.verdict) for save in saves] == [
        (40, "absent"),
        (30, "unreadable"),
        (20, "interrupted"),
        (10, "complete"),
    ]
    assert [save.error.id if save.error else None for save in saves] == [
        *(None, "unsafe-pickle", "interrupted-save", None)
    ]
    assert saves[3].steps == (8500,)


@pytest.mark.parametrize(("torch", "why"), [("2.13", "'decoupled_weight_decay'"), ("2.4", "")])
def test_the_answer_is_for_a_release(samples: Path, torch: str, why: str) -> None:
    with open_checkpoint(samples / "legacy") as checkpoint:
        summary = summarize(checkpoint, torch)
    assert summary.target == torch
    assert bool(summary.obstacles) == bool(why)
    assert why in " ".join(summary.obstacles)
