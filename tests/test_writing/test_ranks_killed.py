"""Ranks of which one is killed at a step, or that meet another job: see killing_ranks.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.test_writing import killing
from tests.test_writing.building import hashes

pytestmark = [pytest.mark.torch, pytest.mark.timeout(280)]
LATE = ("published", "clean up")
DOUBTFUL = (*LATE, "write .metadata", "prove", "publish")


def ran(act: str, job: str, source: Path, place: Path, *steps: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.test_writing.killing_ranks", act, job]
    done = subprocess.run(
        [*command, str(source), str(place), *steps],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def whole(job: str, source: Path, place: Path) -> dict[str, str]:
    killing.prepare(job, source, place)
    killing.JOBS[job](source, place, False)
    return hashes(place)


def check_killed(job: str, samples: Path, tmp_path: Path, *steps: str) -> list[dict[str, Any]]:
    source = samples / "healthy/step-8500"
    before, expected = hashes(source), whole(job, source, tmp_path / "whole")
    killing.prepare(job, source, tmp_path / "untouched")
    nothing = hashes(tmp_path / "untouched")
    seen = ran("kill", job, source, tmp_path / "place", *steps)
    for one in seen:
        where, other = (one["rank"], one["step"]), 1 - one["rank"]
        assert one["codes"][one["rank"]] == -9, where
        assert one["codes"][other] == 5, (where, one["codes"])
        assert one["said"][other].startswith("rank-failed: "), where
        out = {name: sum_ for name, sum_ in one["after"].items() if name.startswith("out/")}
        assert out == (expected if one["step"] in LATE else nothing), where
        # Whether rank 0 was about to publish, and had, only the others can tell any more.
        late = "published before" if one["step"] in LATE else "being published"
        claim = late if one["step"] in DOUBTFUL else "nothing was published"
        assert claim in one["said"][other], one["said"]
        if one["step"] in LATE and job != "overwrite":
            assert one["again"] == [4, 5], where  # it exists by now, and stays as it is
            out = {name: sum_ for name, sum_ in one["end"].items() if name.startswith("out/")}
            assert out == expected
        else:
            assert one["again"] == [0, 0], where
            assert one["end"] == expected, where
    assert hashes(source) == before
    return seen


def check_met(samples: Path, tmp_path: Path, *steps: str) -> list[dict[str, Any]]:
    source = samples / "healthy/step-8500"
    expected = whole("reshard", source, tmp_path / "whole")
    seen = ran("meet", "reshard", source, tmp_path / "place", *steps)
    for one in seen:
        assert sorted([one["first"], one["second"]]) == [[0, 0], [4, 5]], one
        said = " ".join(one["said"])
        assert "another process is writing" in said or "exists" in said, one
        # One that began before the other was done finds out late, and keeps what it has made.
        late = one["step"] == "stage"
        end = {name: sum_ for name, sum_ in one["end"].items() if not late or name[:4] == "out/"}
        assert end == expected, one["step"]
    return seen


def test_some_steps(samples: Path, tmp_path: Path) -> None:
    seen = check_killed("reshard", samples, tmp_path, "1:sync __", "0:publish", "0:published")
    assert [one["step"] for one in seen][1:] == ["publish", "published"]


def test_two_jobs_to_one_destination(samples: Path, tmp_path: Path) -> None:
    assert len(check_met(samples, tmp_path, "0:stage", "0:journal", "0:published")) == 3


@pytest.mark.slow
@pytest.mark.parametrize("job", ["reshard", "one_file", "overwrite"])
def test_every_step_of_each_rank(job: str, samples: Path, tmp_path: Path) -> None:
    seen = check_killed(job, samples, tmp_path)
    names = {one["step"] for one in seen if one["rank"] == 0}
    assert {"stage", "write", "publish", "published", "clean up"} <= names
    assert {one["rank"] for one in seen} == ({0} if job == "one_file" else {0, 1})


@pytest.mark.slow
def test_two_jobs_that_meet_at_every_step(samples: Path, tmp_path: Path) -> None:
    assert len(check_met(samples, tmp_path)) > 8
