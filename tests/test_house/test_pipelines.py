"""The pipelines of docs/guides/ci.md have their servers' forms, and their commands run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from tests.test_house import published


def block(repository: Path, heading: str) -> str:
    """The code that the guide shows below a heading."""
    section = (repository / "docs/guides/ci.md").read_text().split(f"\n## {heading}\n")[1]
    found = re.search(r"^```(?:yaml|groovy)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heading", "schema"),
    [("GitHub Actions", "vendor.github-workflows"), ("GitLab CI", "vendor.gitlab-ci")],
)
def test_servers_read_them(repository: Path, tmp_path: Path, heading: str, schema: str) -> None:
    file = tmp_path / "pipeline.yml"
    file.write_text(block(repository, heading))
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, file],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_pre_commit_reads_its_own(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / ".pre-commit-config.yaml"
    file.write_text(block(repository, "pre-commit"))
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", file],
        capture_output=True, text=True, check=False, env=published.environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (shown,) = yaml.safe_load(file.read_text())["repos"]
    hooks = yaml.safe_load((repository / ".pre-commit-hooks.yaml").read_text())
    assert {hook["id"] for hook in shown["hooks"]} <= {hook["id"] for hook in hooks}


def test_the_workflow_uses_what_the_action_has(repository: Path) -> None:
    action = yaml.safe_load((repository / "action.yml").read_text())
    text = block(repository, "GitHub Actions")
    (step,) = (
        step
        for step in yaml.safe_load(text)["jobs"]["check"]["steps"]
        if step["uses"].startswith("OWNER/dcpctl@")
    )
    assert set(step["with"]) <= set(action["inputs"])
    used = re.findall(rf"steps\.{step['id']}\.outputs\.([\w-]+)", text)
    assert used
    assert set(used) <= set(action["outputs"])


def test_the_guide_names_every_input_and_output(repository: Path) -> None:
    action = yaml.safe_load((repository / "action.yml").read_text())
    section = (repository / "docs/guides/ci.md").read_text().split("\n## GitHub Actions\n")[1]
    table, _, after = section.partition("| input | is |")[2].partition("\n\n")
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert {name for row in rows for name in re.findall(r"`([\w-]+)`", row)} == set(
        action["inputs"]
    )
    assert set(re.findall(r"`([\w-]+)`", after.split("\n\n")[0])) == set(action["outputs"])


@pytest.fixture
def workspace(repository: Path, samples: Path, tmp_path: Path) -> Path:
    """What a CI server has checked out: a project with a run of which one save lost its state."""
    published.publish(repository, tmp_path / "dcpctl")
    shutil.copytree(samples / "silent_reset", tmp_path / "work" / "runs" / "pretrain")
    return tmp_path / "work"


def run(script: list[str], workspace: Path, shell: list[str | Path], **more: str) -> str:
    """Run the lines of a job; return what it printed. It must fail, having found something."""
    done = subprocess.run(
        [*shell, "-c", "\n".join(script)],
        cwd=workspace,
        env=published.environment(DCPCTL=f"file://{workspace.parent / 'dcpctl'}", **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "step-9500" in done.stdout
    suites = ElementTree.parse(workspace / "dcpctl.xml").getroot()
    assert [Path(suite.get("name", "")).name for suite in suites] == [
        *("step-8500", "step-9000", "step-9500")
    ]
    assert int(suites[0].get("failures", "")) == 0
    assert int(suites[2].get("failures", "")) > 0
    return done.stdout


@pytest.fixture
def stocked(tmp_path: Path) -> Path:
    """A virtual environment that has the requirements, so that only dcpctl is to be installed.

    All of it is installed where the action and the pre-commit hook are tested.
    """
    where = tmp_path / "stocked"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", where], check=True)
    (site,) = where.glob("lib/*/site-packages")
    (site / "here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    script(where / "bin" / "pip", 'exec "$(dirname "$0")/python" -m pip "$@"')
    return where


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def in_front(directory: Path) -> str:
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.slow
def test_gitlab(repository: Path, workspace: Path, stocked: Path) -> None:
    job = yaml.safe_load(block(repository, "GitLab CI"))["checkpoints"]
    assert job["artifacts"]["reports"]["junit"] == "dcpctl.xml"
    shell = ["bash", "-eo", "pipefail"]
    run(job["script"], workspace, shell, PATH=in_front(stocked / "bin"))
    assert list(stocked.glob("lib/*/site-packages/dcpctl"))


@pytest.mark.slow
def test_jenkins(repository: Path, workspace: Path, stocked: Path, tmp_path: Path) -> None:
    pipeline = block(repository, "Jenkins")
    assert pipeline.count("{") == pipeline.count("}")
    assert "junit 'dcpctl.xml'" in pipeline
    (commands,) = re.findall(r"sh '''\n(.*?)'''", pipeline, re.DOTALL)
    (tmp_path / "bin").mkdir()
    made = f'[ "$*" = "-m venv .venv" ] && exec cp -R {stocked} .venv'
    script(tmp_path / "bin" / "python3", f"{made}\nexit 70")
    said = run([commands], workspace, ["sh", "-xe"], PATH=in_front(tmp_path / "bin"))
    assert "+ .venv/bin/dcpctl check runs/pretrain" in said
    assert list(workspace.glob(".venv/lib/*/site-packages/dcpctl"))
