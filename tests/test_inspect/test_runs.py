"""Runs as `inspect` lists them: the saves, and which of them to resume from."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpctl.cli.app import app
from dcpctl.inspect.runs import Run, list_runs
from tests.hostile.draft import Draft
from tests.test_check.helpers import adamw, forget, set_numbers


def weights(*names: str) -> Draft:
    draft = adamw(*names)
    for fqn in [fqn for fqn in draft.entries if fqn.startswith("optimizer")]:
        forget(draft, fqn)
    return draft


def without_state(*bare: str, step: float) -> Draft:
    draft = adamw("a.weight", "b.weight", step=step)
    for fqn in [f for f in draft.entries for name in bare if f".state.{name}" in f]:
        forget(draft, fqn)
    return draft


def the_run(path: Path) -> Run:
    ((run,), _) = list_runs(path)
    return run


def said(path: Path, *options: str) -> str:
    return CliRunner().invoke(app, ["inspect", str(path), "--color", "never", *options]).stdout


def test_a_last_save_of_weights_alone_is_an_export(tmp_path: Path) -> None:
    for step in (10, 20):
        adamw(step=step).write(tmp_path / f"step-{step}")
    weights().write(tmp_path / "step-30")
    run = the_run(tmp_path)
    assert [save.weights_only for save in run.saves] == [True, False, False]
    assert run.why_not(run.saves[0]) == "an export: weights alone"
    assert run.resume_from == run.newest_complete == run.saves[1]
    assert "  export " in said(tmp_path)
    document = json.loads(said(tmp_path, "--json"))
    assert [save["export"] for save in document["run"]] == [True, False, False]
    assert document["runs"][0]["resume_from"] == str(tmp_path / "step-20")


def test_a_job_that_lost_its_optimizer_is_no_export(tmp_path: Path) -> None:
    draft = weights()
    draft.value("train_state.step", pickle.dumps(20, 2))
    draft.write(tmp_path / "step-20")
    adamw(step=10).write(tmp_path / "step-10")
    run = the_run(tmp_path)
    assert [save.weights_only for save in run.saves] == [False, False]
    assert run.why_not(run.saves[0]) == "no optimizer state"


def test_what_no_save_has_was_never_trained(tmp_path: Path) -> None:
    for step in (10, 20):
        without_state("b.weight", step=step).write(tmp_path / f"step-{step}")
    run = the_run(tmp_path)
    assert run.never_trained == {"b.weight"}
    assert run.resume_from == run.newest_complete == run.saves[0]
    # A save that had it shows that the newer one lost it.
    adamw("a.weight", "b.weight", step=5).write(tmp_path / "step-5")
    run = the_run(tmp_path)
    assert run.never_trained == frozenset()
    assert run.newest_complete == run.saves[2]


def test_a_reset_is_not_offered_nor_what_follows_it(tmp_path: Path) -> None:
    for name, step in (("10", 10), ("20", 20), ("30", 5), ("40", 15), ("50", 25)):
        adamw(step=step).write(tmp_path / name)
    run = the_run(tmp_path)
    assert [save.name for save in run.saves] == ["50", "40", "30", "20", "10"]
    assert [newer.name for newer, _ in run.resets] == ["30"]
    assert run.resume_from is not None
    assert run.resume_from.name == "20"


def test_micro_batches_are_no_reset(tmp_path: Path) -> None:
    for step in (10, 20):
        adamw(step=step).write(tmp_path / f"batch-{step * 4}")
    run = the_run(tmp_path)
    assert run.resume_from == run.saves[0]


def test_a_save_whose_files_are_gone_is_not_offered(tmp_path: Path) -> None:
    for step in (10, 20):
        adamw(step=step).write(tmp_path / f"step-{step}")
    next((tmp_path / "step-20").glob("*.distcp")).unlink()
    run = the_run(tmp_path)
    assert run.resume_from == run.saves[1]


def test_without_any_the_line_says_why(tmp_path: Path) -> None:
    weights().write(tmp_path / "step-20")
    adamw(step=10).write(tmp_path / "step-10")
    (tmp_path / "step-10" / ".metadata").unlink()
    text = " ".join(said(tmp_path).split())
    why = "no save of this run (step-20: an export: weights alone; step-10: interrupted)"
    assert f"Resume from: {why}" in text
    assert f"Newest complete save: {why}" in text


@pytest.mark.parametrize(("name", "text"), [("latest", "step-10"), ("last_iteration.txt", "20\n")])
def test_what_names_a_bad_save_is_said(tmp_path: Path, name: str, text: str) -> None:
    for step in (10, 20):
        adamw(step=step).write(tmp_path / f"step-{step}")
        (tmp_path / f"step-{step}" / ".metadata").unlink()
    (tmp_path / name).write_text(text)
    wanted = f"{name} leads to step-{text.strip().removeprefix('step-')}: interrupted"
    assert wanted in " ".join(said(tmp_path).split())
    (tmp_path / name).write_text("step-30")
    assert f"{name} names step-30, which is not here" in " ".join(said(tmp_path).split())


def test_weights_at_the_root_do_not_hide_the_saves(tmp_path: Path) -> None:
    for step in (10, 20):
        adamw(step=step).write(tmp_path / f"checkpoint-{step}" / "state")
    head = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    data = len(head).to_bytes(8, "little") + head.encode() + bytes(4)
    (tmp_path / "model.safetensors").write_bytes(data)
    run = the_run(tmp_path)
    assert [save.name for save in run.saves] == ["checkpoint-20", "checkpoint-10", tmp_path.name]
    assert run.resume_from == run.saves[0]
    assert "Resume from" in said(tmp_path)
    assert "a" in said(tmp_path, "--keys")


def test_names_that_would_write_to_a_terminal_are_escaped(tmp_path: Path) -> None:
    for step in (10, 20):
        adamw(step=step).write(tmp_path / f"\x1b[31mstep-{step}")
    (tmp_path / "latest").write_text("\x1b[2J")
    assert "\x1b" not in said(tmp_path)
    assert "step-20" in said(tmp_path)


def test_a_save_whose_second_moments_are_zero_is_not_offered(tmp_path: Path) -> None:
    for step, numbers in ((10, (1.0, 0.0, 0.0, 0.0)), (20, (0.0,) * 4)):
        draft = adamw("a.weight", "b.weight", step=step)
        set_numbers(draft, "optimizer.state.a.weight.exp_avg_sq", 0.0, 0.0, 0.0, 0.0)
        set_numbers(draft, "optimizer.state.b.weight.exp_avg_sq", *numbers)
        draft.write(tmp_path / f"step-{step}")
    run = the_run(tmp_path)
    assert [save.moments_lost for save in run.saves] == [True, False]
    assert run.resume_from == run.saves[1]
    assert "step-20: its second moments are zero" in said(tmp_path)
    document = json.loads(said(tmp_path, "--json"))
    assert [save["moments_lost"] for save in document["run"]] == [True, False]
