"""Logs of two real jobs that were resumed without their optimizer, and were called healthy."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest

from dcpctl.signature.engine import diagnose
from dcpctl.signature.log import Log, Rows, Source
from dcpctl.signature.reading import read_logs
from dcpctl.signature.texts import read_text


@pytest.mark.parametrize(("name", "resume"), [("genesis.csv.gz", 8_501), ("hot.csv", 601)])
def test_a_reset_that_does_not_show_is_not_called_healthy(
    shared: Path, name: str, resume: int
) -> None:
    result = diagnose(read_logs([str(shared / "reports" / "first-day" / "logs" / name)]))
    (one,) = result.diagnoses
    assert one.resume.step == resume
    assert one.verdict.name == "inconclusive"
    assert one.verdict.sentence.startswith("Nothing visible in the log:")
    assert "ask the checkpoint" in one.verdict.sentence


@pytest.mark.parametrize(
    ("name", "columns"),
    [("nano.log", {"step": "iter", "loss": "loss"}),
     ("eq.log", {"step": "step", "loss": "loss", "grad_norm": "grad_norm", "lr": "lr"})],
)  # fmt: skip
def test_printed_rows_have_their_steps(shared: Path, name: str, columns: dict[str, str]) -> None:
    log = read_logs([str(shared / "reports" / "first-day" / "logs" / name)])
    assert log.steps == [float(step) for step in range(8_301, 8_701)]
    assert log.columns["loss"][0] == 2.3927
    assert log.sources[0].columns == columns
    (one,) = diagnose(log, resume_step=8_500).diagnoses
    assert one.verdict.name == "inconclusive"


def test_losses_that_are_higher_than_their_twins(shared: Path) -> None:
    """The job before went on to step 8,512 on the same data; all of its losses were lower."""
    path = shared / "reports" / "first-day" / "logs" / "eq.log"
    lines = path.read_text().splitlines()
    thrown = []
    for line in lines[200:213]:
        step, rest = line.split(": loss=")
        loss, more = rest.split(" ", 1)
        lower = float(loss) * (1.0 if step == "step 8501" else 0.985)
        thrown.append(f"{step}: loss={lower:.4f} {more}")
    log_text = "\n".join([*lines[:200], *thrown, *lines[200:]]) + "\n"
    log = Log()
    read_text(StringIO(log_text), Rows(log, Source("made", ""), {}))
    log.finish()
    (one,) = diagnose(log).diagnoses
    assert one.verdict.name == "lost-optimizer"
    assert any("12 of 12 losses" in reason for reason in one.verdict.reasons)
