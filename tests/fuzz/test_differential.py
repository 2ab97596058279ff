"""A bounded run of the differential harness; `python -m tests.fuzz --differential` runs longer."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.fuzz import differential

#: Inputs of each kind, as many as take about a second.
INPUTS = {"metadata": 500, "tensor": 2500, "value": 2500}
FLIP_STEP = {"metadata": 29, "tensor": 11, "value": 11}


@pytest.fixture(scope="module")
def subjects() -> dict[str, differential.Subject]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return differential.subjects(None)


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.filterwarnings("ignore")
class TestAgreement:
    """What dcpctl passes, torch reads to the same."""

    def test_on_mutants(
        self, subjects: dict[str, differential.Subject], name: str, tmp_path: Path
    ) -> None:
        subject = subjects[name]
        inputs = differential.mutants(subject, 7, INPUTS[name])
        tally = differential.judge_all(subject, name, inputs, tmp_path)
        assert (tally.inputs, tally.failed) == (INPUTS[name], 0)
        assert tally.passed  # some mutations change nothing that counts

    def test_on_bit_flips(
        self, subjects: dict[str, differential.Subject], name: str, tmp_path: Path
    ) -> None:
        subject = subjects[name]
        inputs = differential.flips(min(subject.seeds, key=len), FLIP_STEP[name])
        tally = differential.judge_all(subject, name, inputs, tmp_path)
        assert tally.failed == 0
        # Of an item, every byte is a constant, has a checksum or is one.
        assert name == "metadata" or tally.passed == 0
