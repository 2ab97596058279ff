"""What says at which step the job was."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.witnesses import NAMED, THE_NAME, Witness, Witnesses, settled
from tests.hostile.draft import Draft
from tests.test_check.helpers import adamw, value_of


def witnesses(path: Path) -> Witnesses:
    with open_checkpoint(path) as checkpoint:
        return OptimizerView(checkpoint).witnesses


def job(**values: object) -> Draft:
    draft = adamw(step=5.0)
    for name, value in values.items():
        draft.value(name.replace("__", "."), pickle.dumps(value, 2))
    return draft


@pytest.mark.parametrize(
    ("key", "value", "sure"),
    [
        ("step", 5, True),
        ("app.progress.step", 5, True),
        ("train_state.step", 5, True),
        ("trainer.globalStep", 5, True),
        ("iteration", 5, True),
        ("steps_run", 5, True),
        ("state.num_updates", 5, True),
        ("counter.completed_steps", 5, True),
        # plans, and counts of other things
        ("max_steps", 5, False),
        ("train_steps", 5, False),
        ("progress.total_tokens", 5, False),
        ("timestamp.batch", 5, False),
        ("args.iteration", 5, False),
        ("eval.step", 5, False),
    ],
)
def test_the_last_word_tells_what_a_number_counts(
    tmp_path: Path, key: str, value: object, sure: bool
) -> None:
    job(**{key.replace(".", "__"): value}).write(tmp_path)
    assert witnesses(tmp_path).counts == (Witness(key, 5, sure=sure),)


@pytest.mark.parametrize("value", [True, "5", -1, 2.5, float("nan"), 1e300, None, [5]])
def test_what_is_no_count_is_no_witness(tmp_path: Path, value: object) -> None:
    job(step=value).write(tmp_path)
    assert witnesses(tmp_path).counts == ()


def test_counts_inside_a_pickled_state_are_found(tmp_path: Path) -> None:
    job(trainer={"loop": {"global_step": 7}, "lr": 0.1}).write(tmp_path)
    assert witnesses(tmp_path).counts == (Witness("trainer.loop.global_step", 7),)


def test_files_beside_the_shards_are_read_and_nothing_in_them_is_run(tmp_path: Path) -> None:
    save = tmp_path / "save"
    adamw(step=5.0).write(save / "model")
    (save / "trainer_state.json").write_text(json.dumps({"global_step": 5, "max_steps": 9}))
    (save / "train_state.pt").write_bytes(value_of({"step": 6, "skipped": 0}))
    for rank in range(3):
        (save / f"states_{rank}.pkl").write_bytes(pickle.dumps({"step": 8 + rank}))
    (save / "bad_state.pkl").write_bytes(b"cposix\nsystem\n(S'false'\ntR.")
    (save / "bad_state.json").write_text("[" * 100_000)
    sure = {witness.source: witness.step for witness in witnesses(save).sure}
    assert sure == {
        "trainer_state.json: global_step": 5,
        "train_state.pt: step": 6,
        "states_0.pkl: step": 8,
    }


def test_the_outermost_scheduler_counts(tmp_path: Path) -> None:
    draft = job(scheduler__last_epoch=5, scheduler___step_count=6)
    draft.value("scheduler._schedulers.0.last_epoch", pickle.dumps(2, 2))
    draft.write(tmp_path / "parts" / "weights")
    (tmp_path / "parts" / "scheduler.bin").write_bytes(value_of({"last_epoch": 4}))
    found = witnesses(tmp_path / "parts").schedules
    assert [(each.source, each.last_epoch, each.calls) for each in found] == [
        ("scheduler.last_epoch", 5, 5),
        ("scheduler.bin: last_epoch", 4, None),
    ]


@pytest.mark.parametrize("inner", ["", "trainer", "actor/dist_ckpt"])
def test_the_name_of_the_save_counts_wherever_its_checkpoint_lies(
    tmp_path: Path, inner: str
) -> None:
    adamw().write(tmp_path / "step-24" / inner)
    for path in {tmp_path / "step-24", tmp_path / "step-24" / inner}:
        assert witnesses(path).counts == (Witness(THE_NAME, 24, NAMED),)


@pytest.mark.parametrize("name", ["checkpoint-24", "24", "epoch_24", "2026-07-24", "final"])
def test_other_names_are_no_witness(tmp_path: Path, name: str) -> None:
    adamw().write(tmp_path / name)
    assert witnesses(tmp_path / name).counts == ()


def test_a_directory_around_several_saves_is_none_of_theirs(tmp_path: Path) -> None:
    for name in ("first", "second"):
        adamw().write(tmp_path / "step-24" / name / "x" / "y")
    assert witnesses(tmp_path / "step-24" / "first").counts == ()


def test_of_several_the_one_that_agrees_counts_or_what_most_say() -> None:
    said = [Witness("a", 8), Witness("b", 4), Witness("c", 8)]
    assert settled(said, 4) == said[1]
    assert settled(said, 5) == said[0]
    assert settled([], 5) is None
