"""What pyproject.toml promises."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import tomli
import yaml
from packaging.requirements import Requirement

import dcpctl


def project(repository: Path) -> dict:
    return tomli.loads((repository / "pyproject.toml").read_text())["project"]


def extra(repository: Path, name: str) -> list[Requirement]:
    return [Requirement(line) for line in project(repository)["optional-dependencies"][name]]


def test_torch_is_an_extra(repository: Path) -> None:
    plain = [Requirement(line) for line in project(repository)["dependencies"]]
    assert "torch" not in {one.name for one in plain}
    (torch,) = extra(repository, "torch")
    assert torch.name == "torch"
    assert "2.13.0" in torch.specifier
    assert "2.3.1" not in torch.specifier  # dcpctl.training needs what 2.4 brought


def test_tests_and_development_bring_torch(repository: Path) -> None:
    extras = {name: extra(repository, name) for name in ("test", "dev")}
    ours = {name: {e for r in found if r.name == "dcpctl" for e in r.extras}
            for name, found in extras.items()}  # fmt: skip
    assert "torch" in ours["test"]
    assert "test" in ours["dev"]


def test_the_licence_is_said_and_is_there(repository: Path) -> None:
    said = project(repository)
    assert said["license"] == "BSD-3-Clause"
    assert said["authors"] == [{"name": "the dcpctl authors"}]
    text = (repository / "LICENSE").read_text()
    assert "the dcpctl authors" in text
    assert text.count("\n1. ") == text.count("\n2. ") == text.count("\n3. ") == 1


def test_addresses_are_placeholders(repository: Path) -> None:
    assert all("OWNER" in url for url in project(repository)["urls"].values())


def test_the_citation_is_of_this_version(repository: Path) -> None:
    citation = yaml.safe_load((repository / "CITATION.cff").read_text())
    assert citation["version"] == dcpctl.__version__
    assert citation["license"] == project(repository)["license"]
    assert citation["authors"] == project(repository)["authors"]
    assert citation["repository-code"] == project(repository)["urls"]["Homepage"]


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
