"""Checks of directories: every run below them, exports, renames, other models, schedulers."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpctl import limits
from dcpctl.check.finding import ERROR, INFO, WARNING, Checked
from dcpctl.check.many import check_many, find_targets, look_for
from dcpctl.check.options import CheckOptions
from dcpctl.cli.app import app
from tests.hostile.draft import Draft
from tests.test_check.helpers import adamw, check, forget, the

NAMES = (
    *(f"layers.{layer}.{part}.weight" for layer in range(4) for part in ("attn", "ffn")),
    "embed.weight",
    "head.weight",
)


# Drafts have the same weights at every step, which DCP61x find.
def checked(path: Path, **options: object) -> Checked:
    targets, unread = look_for(path)
    return check_many(
        targets,
        CheckOptions(torch="2.13", jobs=1, ignore=("DCP4", "DCP61"), **options),
        unread=unread,
    )


def found(result: Checked, name: str) -> list[tuple[str, str]]:
    (one,) = [one for one in result.results if one.path.name == name]
    return [(finding.rule, finding.severity) for finding in one.findings]


def scheduled(step: float, last_epoch: int, calls: int | None = None) -> Draft:
    draft = adamw(step=step)
    draft.value("scheduler.last_epoch", pickle.dumps(last_epoch, 2))
    if calls is not None:
        draft.value("scheduler._step_count", pickle.dumps(calls + 1, 2))
    return draft


def weights(rename: dict[str, str] | None = None) -> Draft:
    draft = adamw(*NAMES)
    for fqn in [fqn for fqn in draft.entries if fqn.startswith("optimizer")]:
        forget(draft, fqn)
    if rename is None:
        return draft
    other = Draft()
    for fqn in draft.entries:
        name = fqn
        for old, new in rename.items():
            name = name.replace(old, new)
        other.tensor(name, (4,), [2, 2])
    return other


# -- what is checked --


def test_every_run_below_is_checked_however_deep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # workers of xdist have 80
    for where in ("a", "b/c/d/e"):
        for step in (10, 20):
            adamw(step=step).write(tmp_path / where / f"step-{step}" / "trainer")
    (tmp_path / "b/c/d/e/step-20/trainer/.metadata").write_bytes(b"\x80\x04rubbish")
    result = checked(tmp_path)
    assert [(one.path.parent.name, one.against and one.against.name) for one in result.results] == [
        ("a", None),
        ("a", "step-10"),
        ("e", None),
    ]
    assert [one.error.id for one in result.unreadable] == ["malformed-pickle"]
    assert [(run.path.name, run.resume_from and run.resume_from.name) for run in result.runs] == [
        ("a", "step-20"),
        ("e", "step-10"),
    ]
    done = CliRunner().invoke(
        app, ["check", str(tmp_path), "--color", "never", "--ignore", "DCP61"]
    )
    assert done.exit_code == 3
    text = " ".join(done.stdout.split())
    assert "4 checkpoints of 2 runs" in text
    assert f"Resume from ({tmp_path}/a): {tmp_path}/a/step-20" in text


def test_where_was_not_looked_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (10, 20):
        adamw(step=step).write(tmp_path / f"step-{step}")
    adamw().write(tmp_path / "d" / "e" / "f" / "step-30")
    monkeypatch.setattr(limits, "TREE_DEPTH", 2)
    result = checked(tmp_path)
    assert [path for path, _ in result.unread] == [tmp_path / "d" / "e" / "f"]
    done = CliRunner().invoke(app, ["check", str(tmp_path), "--json", "--ignore", "DCP61"])
    document = json.loads(done.stdout)
    assert [one["path"] for one in document["not_looked_into"]] == [str(tmp_path / "d/e/f")]
    assert document["runs"][0]["resume_from"] == str(tmp_path / "step-20")


def test_saves_of_one_position_are_not_compared(tmp_path: Path) -> None:
    for name in ("step-10", "step-20", "step-20-last"):
        adamw(step=float(name[5:7])).write(tmp_path / name)
    before = {target.path.name: target.before for target in find_targets(tmp_path)}
    assert before["step-20-last"] == before["step-20"] == (tmp_path / "step-10",)


# -- exports and renames --


def test_the_last_save_may_be_an_export(tmp_path: Path) -> None:
    for step in (10, 20):
        draft = adamw(*NAMES, step=step)
        draft.value("train_state.step", pickle.dumps(step, 2))
        draft.value("dataloader.dp_rank_0", pickle.dumps({}, 2))
        draft.write(tmp_path / f"step-{step}")
    weights({"model.layers": "model.h", "attn": "self_attn"}).write(tmp_path / "step-30")
    result = checked(tmp_path)
    assert found(result, "step-30") == [("DCP501", WARNING), ("DCP604", INFO)]
    (one, renamed) = result.results[-1].findings
    assert one.message == (
        "an export: the model alone, from which training cannot be resumed; to resume, use "
        "'step-20'"
    )
    assert renamed.message.startswith("8 keys named otherwise: 'model.layers.")
    assert result.runs[0].resume_from == tmp_path / "step-20"


def test_an_export_may_leave_out_the_root_of_the_model(tmp_path: Path) -> None:
    adamw(*NAMES, step=10).write(tmp_path / "step-10")
    weights({"model.": ""}).write(tmp_path / "step-20")
    assert found(checked(tmp_path), "step-20") == [("DCP501", WARNING), ("DCP604", INFO)]


def test_renamed_keys_are_not_called_missing(tmp_path: Path) -> None:
    adamw(*NAMES, step=10).write(tmp_path / "step-10")
    new = [name.replace("attn", "self_attn") for name in NAMES]
    adamw(*new, step=20).write(tmp_path / "step-20")
    message = the(check(tmp_path / "step-20", "DCP604", against=tmp_path / "step-10")).message
    assert message.startswith("4 keys named otherwise: 'model.layers.0.attn.weight' in 'step-10'")


# -- another model --


def test_a_save_of_another_model_is_one_finding(tmp_path: Path) -> None:
    adamw(*NAMES, step=10).write(tmp_path / "step-10")
    draft = adamw(*NAMES, step=20)
    for name in NAMES:
        forget(draft, f"model.{name}")
        draft.tensor(f"model.{name}", (8,), [4, 4])
    draft.write(tmp_path / "step-20")
    result = check(tmp_path / "step-20", "DCP6", against=tmp_path / "step-10")
    assert (the(result).rule, the(result).severity) == ("DCP609", WARNING)
    forget(draft, "model.head.weight")
    draft.tensor("model.head.weight", (4,), [2, 2])


# -- schedulers --


@pytest.mark.parametrize(
    ("step", "last_epoch", "calls", "severity"),
    [
        (30, 30, 30, None),
        (30, 29, 29, None),  # saved before the scheduler was stepped
        (30, 0, 30, ERROR),  # set back
        (30, 0, None, WARNING),
        (30, 3, 3, None),  # stepped once an epoch
        (30, 3, None, INFO),
        (20, 30, 30, WARNING),
        (20, 40, 40, None),  # once for each of two ranks, as accelerate does
        (20, 60, 60, WARNING),
    ],
)
def test_a_scheduler_beside_its_optimizer(
    tmp_path: Path, step: int, last_epoch: int, calls: int | None, severity: str | None
) -> None:
    scheduled(step, last_epoch, calls).write(tmp_path)
    findings = check(tmp_path, "DCP514").findings
    assert [finding.severity for finding in findings] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ((20, 20), (30, 30), ""),
        ((20, 20), (30, 10), "was restarted"),
        ((20, 20), (30, 40), "advanced by 20"),
        ((20, 40), (30, 60), ""),  # twice a step, as ever
        ((20, 2), (30, 3), ""),
    ],
)
def test_a_scheduler_between_two_saves(
    tmp_path: Path, before: tuple[int, int], after: tuple[int, int], message: str
) -> None:
    scheduled(before[0], before[1], before[1]).write(tmp_path / "a")
    scheduled(after[0], after[1], after[1]).write(tmp_path / "b")
    findings = check(tmp_path / "b", "DCP514", against=tmp_path / "a").findings
    assert [message in finding.message for finding in findings] == ([True] if message else [])


# -- witnesses --


def test_a_witness_that_never_agreed_is_dropped_and_the_notes_say_why(tmp_path: Path) -> None:
    for step, count in ((10, 40), (20, 80)):
        draft = adamw(step=step)
        draft.value("loop.iteration", pickle.dumps(count, 2))
        draft.write(tmp_path / f"save_{step}")
    result = check(tmp_path / "save_20", "DCP506", against=tmp_path / "save_10")
    assert result.findings == ()
    assert result.notes == (
        "loop.iteration says 80 and is no witness of the step: it counts 4 for each step of the "
        "optimizer, as in 'save_10'.",
    )
    assert the(check(tmp_path / "save_20", "DCP506")).severity == ERROR


def test_a_witness_that_agreed_before_is_believed(tmp_path: Path) -> None:
    for step, count in ((10, 10), (12, 20)):
        draft = adamw(step=step)
        draft.value("loop.iteration", pickle.dumps(count, 2))
        draft.write(tmp_path / f"save_{step}")
    found = the(check(tmp_path / "save_12", "DCP506", against=tmp_path / "save_10"))
    assert "loop.iteration says 20" in found.message


def test_of_two_witnesses_the_finding_names_who_says_what(tmp_path: Path) -> None:
    draft = adamw(step=20)
    draft.value("loop.iteration", pickle.dumps(20, 2))
    draft.write(tmp_path / "step-55")
    found = the(check(tmp_path / "step-55", "DCP506"))
    assert found.message == (
        "the optimizer is at step 20; the directory's name says 55: it was reset or restored from "
        "an older save; loop.iteration says 20 too"
    )
