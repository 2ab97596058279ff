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


def test_no_rank_of_two_waits(ran: Path) -> None:
    check([json.loads((ran / f"rank{rank}.json").read_text())["failing"] for rank in range(2)])


@pytest.mark.soak
def test_no_rank_of_four_waits(tmp_path: Path) -> None:
    torchrun(Path(__file__).with_name("failing_job.py"), tmp_path, ranks=4)
    check([json.loads((tmp_path / f"failing{rank}.json").read_text()) for rank in range(4)])
