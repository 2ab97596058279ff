"""A plain install brings no torch, and dcpctl works without: a wheel in a fresh environment."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools import pythons

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The wheel of the working tree."""
    return pythons.wheel(Path(sys.executable), repository, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The interpreter of a fresh environment in which `pip install` put the wheel."""
    where = tmp_path_factory.mktemp("bare") / "venv"
    return pythons.torch_free_environment(Path(sys.executable), where, wheel)


def run(bare: Path, cwd: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # From another directory, so that the installed package is what runs.
    return subprocess.run(
        [bare.with_name("dcpctl"), *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def python(bare: Path, cwd: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([bare, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_the_wheel_has_everything_and_nothing_else(repository: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        head = archive.read(metadata).decode().partition("\n\n")[0].splitlines()
        names = {Path(name).name for name in archive.namelist() if ".dist-info/" in name}
    tree = (path for path in (repository / "dcpctl").rglob("*") if path.is_file())
    expected = {
        path.relative_to(repository).as_posix() for path in tree if "__pycache__" not in path.parts
    }
    packaged = {name for name in inside if name.startswith("dcpctl/_data/samples/")}
    assert inside - packaged == expected
    assert wheel.stat().st_size < 3_000_000
    assert {"dcpctl/py.typed", "dcpctl/_data/dcpctl.inspect-1.schema.json"} <= inside
    assert {"LICENSE", "entry_points.txt"} <= names
    assert "License-Expression: BSD-3-Clause" in head
    asks = [line for line in head if line.startswith("Requires-Dist: torch")]
    assert asks
    assert all("; extra == " in line for line in asks)


def test_the_wheel_brings_the_samples(bare: Path, samples: Path, tmp_path: Path) -> None:
    done = run(bare, tmp_path, "samples")
    assert (done.returncode, done.stderr) == (0, "")
    for path in samples.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc", ".json"):
            made = tmp_path / "sample_checkpoints" / path.relative_to(samples)
            assert made.read_bytes() == path.read_bytes(), path


def test_torch_is_not_there(bare: Path, tmp_path: Path) -> None:
    done = python(bare, tmp_path, "-c", "import torch")
    assert "ModuleNotFoundError" in done.stderr


def test_inspect(bare: Path, samples: Path, tmp_path: Path) -> None:
    done = run(bare, tmp_path, "inspect", samples / "healthy" / "step-8500", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["optimizer"]["verdict"] == "complete"


def test_python_dash_m_is_the_same(bare: Path, samples: Path, tmp_path: Path) -> None:
    arguments = ("inspect", samples / "healthy" / "step-8500")
    done = python(bare, tmp_path, "-m", "dcpctl", *arguments)
    assert done.returncode == 0
    assert done.stdout == run(bare, tmp_path, *arguments).stdout
    usage = python(bare, tmp_path, "-m", "dcpctl", "inspect", "--help").stdout
    assert usage.splitlines()[0].startswith("Usage: dcpctl inspect")


def test_check(bare: Path, samples: Path, tmp_path: Path) -> None:
    done = run(bare, tmp_path, "check", samples / "healthy" / "step-8500", "--verify-data")
    assert done.returncode == 0, done.stdout + done.stderr
    rotten = run(bare, tmp_path, "check", samples / "flipped_bit", "--verify-data")
    assert rotten.returncode == 1, rotten.stdout + rotten.stderr
    assert "DCP3" in rotten.stdout


def test_surgery(bare: Path, samples: Path, tmp_path: Path) -> None:
    source = samples / "healthy" / "step-8500"
    done = run(bare, tmp_path, "reshard", source, tmp_path / "two", "--world-size", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([*(tmp_path / "two").glob("*.distcp")]) == 2


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
    done = python(bare, tmp_path, "-c", code, samples / "healthy" / "step-8500")
    assert (done.stdout, done.stderr) == ("(4,)\n", "")


@pytest.mark.parametrize(
    "code",
    [
        "import dcpctl.training",
        "import dcpctl.training.planner",
        "import dcpctl, sys; dcpctl.open_checkpoint(sys.argv[1])['model.norm.weight'].torch()",
    ],
)
def test_what_needs_torch_says_how_to_get_it(
    bare: Path, samples: Path, tmp_path: Path, code: str
) -> None:
    guarded = (
        f"try:\n    {code}\nexcept ImportError as error:\n    print(error.id, error.hint, sep='; ')"
    )
    done = python(bare, tmp_path, "-c", guarded, samples / "healthy" / "step-8500")
    assert (done.stdout, done.stderr) == (
        *("missing-dependency; pip install 'dcpctl[torch]'\n", ""),
    )
