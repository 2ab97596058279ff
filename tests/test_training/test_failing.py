"""Every rank hears of a failure on any rank, in any step of a load; see failing_job.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.test_training.torchruns import torchrun

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.timeout(300)]

#: Seconds until all know; gloo would wait for half an hour.
SOON = 20.0


def check(seen: list[dict[str, Any]]) -> None:
    assert len(seen[0]) == 21 * len(seen)
    for case in seen[0]:
        _, step, failing = case.split(", ")
        told = [one[case][0] for one in seen]
        assert max(one[case][1] for one in seen) < SOON, case
        if step == "create_global_plan" and failing != "0":
            assert not any(told), case  # which only the coordinator calls
        else:
            assert all(f"{failing}: '{step} failed'" in text for text in told), (case, told)


#: What the message of each of the planner's own refusals says, of which key.
SAID = {
    "missing": "not on disk (1):\n    'probe.absent'",
    "shape": "in another shape (1):\n    'probe.floats' is float32 [4, 4], asked for as float32",
    "int": "of another kind (1):\n    'probe.floats' is float32 [4, 4], asked for as int64 [4, 4]",
    "bytes": "of another kind (1):\n    'probe.text' is an object, asked for as float32 [2]",
    "lossy": "rounded by the load (1):\n    'probe.floats' is float32 [4, 4], asked for as bf",
    "partial": "not asked for by rank RANK (1):\n    'model.blocks.0.w1.weight'",
}


def check_refused(seen: list[dict[str, Any]]) -> None:
    """All ranks are told the same by the first, which decides; and then can load what is right."""
    assert len(seen[0]) == 3 * (len(SAID) * len(seen) + 1)
    for case, (told, _) in seen[0].items():
        _, kind, rank = case.split(", ")
        assert all(one[case][0] == told for one in seen), case
        assert max(one[case][1] for one in seen) < SOON, case
        if kind == "right":
            assert told == {}, case
            continue
        assert list(told) == ["0"], case
        assert told["0"].startswith("LoadRefused: "), case
        assert SAID[kind].replace("RANK", rank) in told["0"], (case, told)
        assert ("not asked for by" in told["0"]) == (kind == "partial"), (case, told)


@pytest.mark.parametrize("ranks", [2, 4])
def test_no_rank_waits_for_a_refusal(tmp_path: Path, ranks: int) -> None:
    torchrun(Path(__file__).with_name("failing_job.py"), tmp_path, "refused", ranks=ranks)
    check_refused(
        [json.loads((tmp_path / f"refused{rank}.json").read_text()) for rank in range(ranks)]
    )


def test_no_rank_of_two_waits(ran: Path) -> None:
    check([json.loads((ran / f"rank{rank}.json").read_text())["failing"] for rank in range(2)])


@pytest.mark.soak
def test_no_rank_of_four_waits(tmp_path: Path) -> None:
    torchrun(Path(__file__).with_name("failing_job.py"), tmp_path, "failing", ranks=4)
    check([json.loads((tmp_path / f"failing{rank}.json").read_text()) for rank in range(4)])
