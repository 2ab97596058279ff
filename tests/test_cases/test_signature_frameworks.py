"""One run that lost its optimizer at step 400, as frameworks print it (torchtitan#1702, #1136)."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.signature.engine import diagnose
from dcpctl.signature.reading import read_logs


@pytest.mark.parametrize(
    ("name", "steps", "lr"),
    [
        ("torchtitan_real.log", True, False),
        ("torchtitan.log", True, False),
        ("torchtitan_plain.log", True, False),
        ("torchtune.txt", True, True),
        ("hf_console_tqdm.log", True, True),
        ("hf_console.log", False, True),
    ],
)
def test_the_reset_is_found(shared: Path, name: str, steps: bool, lr: bool) -> None:
    log = read_logs([str(shared / "reports" / "signature-frameworks" / "logs" / name)])
    result = diagnose(log)
    (one,) = result.diagnoses
    assert one.verdict.name == "lost-optimizer"
    assert log.has("lr") is lr
    assert log.columns["loss"][:3] == [1.823, 1.824, 1.861]
    assert len(log) == 230
    if steps:
        assert one.resume.step == 400
        assert (log.steps[0], log.steps[-1]) == (300, 499)
    else:  # the Trainer prints no step without its bar: the epoch tells where rows are
        assert log.placed == "epoch"
        assert one.resume.why == ("the epoch goes back from 4.29 to 4",)
