"""What pyproject.toml promises."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import tomli

import dcpctl


def project(repository: Path) -> dict:
    return tomli.loads((repository / "pyproject.toml").read_text())["project"]


def test_gate_requirements_are_the_dependencies_without_torch(repository: Path) -> None:
    lines = (repository / "requirements-gate.txt").read_text().splitlines()
    gate = [line for line in lines if line and not line.startswith("#")]
    dependencies = project(repository)["dependencies"]
    assert gate == [d for d in dependencies if re.split(r"\W", d)[0] != "torch"]
    assert len(gate) == len(dependencies) - 1


def test_the_version_stands_in_one_place(repository: Path) -> None:
    assert project(repository)["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", dcpctl.__version__)
    changelog = (repository / "CHANGELOG.md").read_text()
    assert f"## [{dcpctl.__version__}]" in changelog or "## [Unreleased]" in changelog


def test_there_is_no_setup_py(repository: Path) -> None:
    assert not (repository / "setup.py").exists()
    assert not (repository / "setup.cfg").exists()


def test_public_names() -> None:
    assert set(dcpctl.__all__) <= set(dir(dcpctl))
    assert callable(dcpctl.open_checkpoint)
    assert sys.modules["dcpctl"].__getattr__("open_checkpoint") is dcpctl.open_checkpoint


def test_samples_stay_small(samples: Path) -> None:
    assert sum(p.stat().st_size for p in samples.rglob("*") if p.is_file()) < 5_000_000
