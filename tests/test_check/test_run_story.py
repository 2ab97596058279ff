"""The seed's story: a run that was resumed without its optimizer's state, really trained."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dcpctl.check.finding import CheckResult, Finding
from tests.test_check.helpers import check, rules

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.timeout(240)]

RUN_RULES = "DCP6"


def torchrun(folder: Path, *what: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-addr=127.0.0.1", f"--master-port={port}", "-m"]
    done = subprocess.run(
        [*command, "tests.test_check.run_jobs", *what, "--dir", str(folder)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty healthy steps with two saves, then three ways to go on from the second."""
    folder = tmp_path_factory.mktemp("runs")
    common = ["train:0-20", "save:step-20", "train:20-40", "save:step-40"]
    ways = {"well": "load", "reset": "load-model", "by_hand": "load-step"}
    what = list(common)
    for name, how in ways.items():
        what += ["restart", f"{how}:step-40", "train:40-60", f"save:{name}/step-60"]
        what += ["train:60-80", f"save:{name}/step-80"]
    torchrun(folder, *what)
    for name in ways:
        for step in ("step-20", "step-40"):
            shutil.copytree(folder / step, folder / name / step)
    return folder


def compared(runs: Path, name: str, step: int) -> CheckResult:
    run = runs / name
    return check(run / f"step-{step}", RUN_RULES, against=run / f"step-{step - 20}")


def only(result: CheckResult) -> Finding:
    (found,) = (found for found in result.findings if found.severity != "info")
    return found


@pytest.mark.parametrize("step", [40, 60, 80])
def test_a_run_that_was_resumed_well_has_nothing(runs: Path, step: int) -> None:
    result = compared(runs, "well", step)
    assert result.findings == ()
    assert result.skipped == ()


def test_a_resume_of_the_model_alone_is_named_with_both_steps(runs: Path) -> None:
    found = only(compared(runs, "reset", 60))
    assert (found.rule, found.severity, found.subject) == ("DCP601", "error", "optimizer")
    assert found.message == (
        "the optimizer restarted: step 20 here, 40 in 'step-40' 20 steps before; "
        "reset at step 40, and exp_avg_sq with it"
    )


def test_the_saves_after_it_go_on(runs: Path) -> None:
    assert compared(runs, "reset", 80).findings == ()


def test_a_step_put_right_by_hand_hides_nothing(runs: Path) -> None:
    found = only(compared(runs, "by_hand", 60))
    assert (found.rule, found.severity) == ("DCP602", "error")
    assert "exp_avg_sq restarted in" in found.message
    assert "step says 60 all the same" in found.message
    at, apart = found.message.partition("reset at about step ")[2].split(" (±")
    assert abs(int(at) - 40) <= int(apart.partition(")")[0]) <= 10
    assert compared(runs, "by_hand", 80).findings == ()


def test_nothing_else_is_found_when_all_rules_run(runs: Path) -> None:
    """DCP506 would say of the reset what DCP601 says better."""
    whole = check(runs / "reset" / "step-60", against=runs / "reset" / "step-40")
    assert rules(whole, "error", "warning") == {"DCP601"}
    later = check(runs / "reset" / "step-80", against=runs / "reset" / "step-60")
    assert rules(later, "error", "warning") == {"DCP506"}
    assert only(later).message.endswith("an older save, as 'step-60' before it")


def test_the_check_of_the_run_names_the_reset_and_the_step(runs: Path) -> None:
    command = [sys.executable, "-m", "dcpctl", "check", "--json"]
    for name, expected in (
        ("well", []),
        ("reset", [("step-60", "DCP601"), ("step-80", "DCP506")]),
        ("by_hand", [("step-60", "DCP602")]),
    ):
        done = subprocess.run(
            [*command, str(runs / name)], check=False, capture_output=True, text=True
        )
        assert done.returncode == (1 if expected else 0), done.stderr
        found = [
            (Path(one["path"]).name, finding["rule"])
            for one in json.loads(done.stdout)["checkpoints"]
            for finding in one["findings"]
            if finding["severity"] == "error"
        ]
        assert found == expected
