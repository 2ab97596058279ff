"""The diagnosis of real runs is what the tables in docs/studies/signature.md say, and no worse."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from statistics import mean, median

import pytest

from dcpctl.signature.power import GREATEST_RISE, LEAST_RISE, USUAL_RISE
from tests.studies import signature_samples
from tests.studies.signature_logs import Found, by_size, by_word, diagnosed, matrix, runs


@pytest.fixture(scope="module")
def apart() -> Found:
    return diagnosed(abandoned=False)


@pytest.fixture(scope="module")
def abandoned() -> Found:
    return diagnosed(abandoned=True)


def test_the_tables_of_the_docs(repository: Path, apart: Found, abandoned: Found) -> None:
    page = (repository / "docs/studies/signature.md").read_text()
    tables = (
        matrix(apart), matrix(abandoned), by_word(apart, abandoned), by_size(apart, abandoned)
    )  # fmt: skip
    for lines in tables:
        assert "\n".join(lines) in page


@pytest.mark.parametrize("name", ["apart", "abandoned"])
def test_what_the_docs_promise(name: str, request: pytest.FixtureRequest) -> None:
    """No healthy resume is called lost; where a reset shows at all, it is called by its name."""
    found: Found = request.getfixturevalue(name)
    called = Counter((run.truth, one.verdict.name) for run, one in found)
    assert called["healthy", "lost-optimizer"] == 0
    assert called["divergence", "lost-optimizer"] == 0
    # The word is said only where a reset would have shown.
    assert not any(one.verdict.name == "healthy" for run, one in found if run.truth != "healthy")
    assert all(
        one.verdict.confidence != "high" or run.truth == "healthy"
        for run, one in found
        if one.verdict.name == "healthy"
    )
    whole = [
        one
        for run, one in found
        if run.scenario.startswith("all of it") and run.regime in ("normed", "hot", "edge")
    ]
    assert sum(one.verdict.name == "lost-optimizer" for one in whole) >= 0.9 * len(whole)
    assert all(not one.match.ok for one in whole)


def test_resets_are_as_mild_as_the_power_takes_them_for() -> None:
    """The table of least rises is that of the recorded resets of a whole optimizer."""
    saves: dict[tuple[str, int, int], dict[str, list[float]]] = {}
    for run in runs():
        saves.setdefault((run.regime, run.seed, run.resume), {})[run.scenario] = run.second["loss"]
    for steps, least in LEAST_RISE.items():
        rises = [
            mean(
                (a - b) / b
                for a, b in zip(of["all of it"][1:], of["exact"][1 : steps + 1], strict=False)
            )
            for of in saves.values()
        ]
        assert min(rises) == pytest.approx(least, abs=2e-4)
        if steps == 20:
            assert median(rises) == pytest.approx(USUAL_RISE, abs=2e-3)
            assert max(rises) == pytest.approx(GREATEST_RISE, abs=5e-3)


def test_a_resume_is_found_in_each(apart: Found) -> None:
    assert {one.resume.step for _, one in apart} == {400, 1200}
    assert len(apart) > 200


def test_exact_restores_are_compared_step_by_step() -> None:
    for run in runs():
        if run.scenario == "exact":
            one = run.diagnosis(abandoned=True)
            assert one.evidence.replayed == 30
            assert one.match.ok


def test_samples_are_of_recorded_runs(samples: Path, tmp_path: Path) -> None:
    signature_samples.write_json_lines(
        tmp_path / "lost.jsonl", signature_samples.the_run("all of it")
    )
    signature_samples.write_csv(
        tmp_path / "healthy.csv", signature_samples.the_run("exact"), {}, abandoned=True
    )
    for name in ("lost.jsonl", "healthy.csv"):
        assert (tmp_path / name).read_bytes() == (samples / "logs" / name).read_bytes()


@pytest.mark.torch
@pytest.mark.slow
def test_runs_can_be_made_again() -> None:
    """The runs themselves: a step of one is what was recorded, and a reset is none."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    from tests.studies.signature_runs import REGIMES, SCENARIOS, Job

    assert {run.scenario for run in runs()} == {one.name for one in SCENARIOS}
    job = Job(REGIMES[0], 1)
    (row,) = job.train(1)
    assert row["step"] == 0
    assert 3 < row["loss"] < 4
    reset = next(one for one in SCENARIOS if one.name == "all of it")
    reset.change(job)
    states = list(job.optimizer.state.values())
    assert states
    assert not any(float(slot.abs().sum()) for state in states for slot in state.values())
    assert json.dumps(row)
