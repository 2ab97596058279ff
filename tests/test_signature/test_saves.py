"""The saves of a run decide about the resumes of its log."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dcpctl.cli.app import app
from dcpctl.errors import NothingSelected
from dcpctl.signature.engine import Result as Diagnosed
from dcpctl.signature.engine import diagnose
from dcpctl.signature.saves import Saved, ask_saves
from tests.test_signature.making import SEED_AFTER, SEED_BEFORE, log_of, seed_rows


def result(after: dict, resume: int | None = 500) -> Diagnosed:
    return diagnose(log_of(list(seed_rows(after)), resume))


def saves(**errors: str) -> list[Saved]:
    return [
        Saved(Path("run/step-8500"), 8_500),
        Saved(Path("run/step-8700"), 8_700, errors),
    ]


@pytest.mark.parametrize("after", [SEED_BEFORE, SEED_AFTER])
def test_a_reset_in_the_saves_is_one(after: dict) -> None:
    (one,) = ask_saves(result(after), saves(DCP601="the optimizer restarted")).diagnoses
    assert (one.verdict.name, one.verdict.confidence) == ("lost-optimizer", "high")
    assert "'step-8700': the optimizer restarted (DCP601)" in one.verdict.sentence
    assert one.witness is not None
    assert one.witness.resumed_from == Path("run/step-8500")


def test_state_that_went_on_is_healthy_whatever_batches_scatter() -> None:
    (one,) = ask_saves(result(SEED_BEFORE), saves()).diagnoses
    assert (one.verdict.name, one.verdict.confidence) == ("healthy", "high")


def test_state_that_went_on_was_not_lost_whatever_the_loss_did() -> None:
    (one,) = ask_saves(result(SEED_AFTER), saves()).diagnoses
    assert one.verdict.name == "divergence"
    assert one.verdict.sentence.startswith("Not the optimizer's state")


@pytest.mark.parametrize(
    "known",
    [
        [Saved(Path("step-8500"), 8_500)],
        [Saved(Path("step-8700"), 8_700)],
        [Saved(Path("step-8500"), 8_500), Saved(Path("step-8700"), 8_700, unread="rotten")],
        [Saved(Path("step-8500"), 8_500),
         Saved(Path("step-8700"), 8_700, skipped={"DCP601": "no step", "DCP602": "no moments"})],
    ],
)  # fmt: skip
def test_saves_that_do_not_tell(known: list[Saved]) -> None:
    (one,) = ask_saves(result(SEED_AFTER), known).diagnoses
    assert one.verdict.name == "lost-optimizer"
    assert "the saves do not tell" in one.verdict.reasons[0]
    assert one.witness is not None
    assert one.witness.optimizer == "unknown"


def test_a_save_without_optimizer_that_a_job_resumed_from() -> None:
    known = [Saved(Path("step-8500"), 8_500, {"DCP501": "there is none"})]
    (one,) = ask_saves(result(SEED_BEFORE), known).diagnoses
    assert one.verdict.name == "lost-optimizer"


def test_a_resume_that_the_log_does_not_show() -> None:
    (one,) = ask_saves(result(SEED_BEFORE, None), saves(DCP602="the moments began")).diagnoses
    assert one.verdict.name == "lost-optimizer"
    assert one.resume.why == ("the saves show it",)
    assert one.resume.step == 8_501


def test_saves_and_rows_that_cannot_be_brought_together() -> None:
    with pytest.raises(NothingSelected):
        ask_saves(result(SEED_BEFORE), [])
    elsewhere = [
        Saved(Path("step-10"), 10), Saved(Path("step-20"), 20, {"DCP601": "it restarted"})
    ]  # fmt: skip
    asked = ask_saves(result(SEED_BEFORE, None), elsewhere)
    assert asked.diagnoses == ()
    assert "outside of the log's steps: 'step-20': it restarted (DCP601)" in asked.log.notes


def signature(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["signature", *map(str, arguments)])


@pytest.mark.parametrize(
    ("steps", "resume", "name", "code"),
    [(range(8_800, 9_600), 9_001, "lost-optimizer", 1), (range(8_300, 9_001), 8_501, "healthy", 0)],
)
def test_a_run_of_saves(
    samples: Path, tmp_path: Path, steps: range, resume: int, name: str, code: int
) -> None:
    """A log in which nothing can be seen: between the saves at 9,000 and 9,500 was a reset."""
    draw = random.Random(1)
    lines = ["step,loss,grad_norm,lr,session"] + [
        f"{step},{draw.gauss(1.2, 0.06)},{draw.gauss(0.6, 0.05)},3e-4,{int(step >= resume)}"
        for step in steps
    ]
    log = tmp_path / "log.csv"
    log.write_text("\n".join(lines) + "\n")
    assert json.loads(signature(log, "--json").stdout)["verdict"] == "inconclusive"
    done = signature(log, "--run", samples / "silent_reset", "--json")
    assert done.exit_code == code, done.output
    found = json.loads(done.stdout)
    assert (found["verdict"], found["confidence"]) == (name, "high")
    assert found["resumes"][0]["step"] == resume
    assert found["resumes"][0]["saves"]["optimizer"] == ("lost" if code else "went-on")
