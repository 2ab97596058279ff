"""dcpctl works where torch is not installed at all, installed as the README says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools import pythons

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The interpreter of a fresh environment made by the gate-only install."""
    where = tmp_path_factory.mktemp("bare") / "venv"
    return pythons.torch_free_environment(Path(sys.executable), where, repository)


def run(bare: Path, cwd: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # From another directory, so that the installed package is what runs.
    return subprocess.run(
        [bare.with_name("dcpctl"), *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_torch_is_not_there(bare: Path) -> None:
    done = subprocess.run([bare, "-c", "import torch"], capture_output=True, check=False)
    assert b"ModuleNotFoundError" in done.stderr


def test_inspect(bare: Path, samples: Path, tmp_path: Path) -> None:
    done = run(bare, tmp_path, "inspect", samples / "healthy" / "step-8500", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["optimizer"]["verdict"] == "complete"


def test_check(bare: Path, samples: Path, tmp_path: Path) -> None:
    done = run(bare, tmp_path, "check", samples / "healthy" / "step-8500", "--verify-data")
    assert done.returncode == 0, done.stdout + done.stderr
    rotten = run(bare, tmp_path, "check", samples / "flipped_bit", "--verify-data")
    assert rotten.returncode == 1, rotten.stdout + rotten.stderr
    assert "DCP3" in rotten.stdout


def test_explain_finds_its_pages(bare: Path, tmp_path: Path) -> None:
    done = run(bare, tmp_path, "explain", "DCP103")
    assert done.returncode == 0
    assert "DCP103" in done.stdout


def test_library(bare: Path, samples: Path, tmp_path: Path) -> None:
    code = (
        "import sys, dcpctl\n"
        "with dcpctl.open_checkpoint(sys.argv[1]) as checkpoint:\n"
        "    print(checkpoint['model.norm.weight'][:4].shape)\n"
    )
    done = subprocess.run(
        [bare, "-c", code, samples / "healthy" / "step-8500"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("(4,)\n", "")
