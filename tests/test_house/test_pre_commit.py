"""The pre-commit hook: pre-commit really installs it and runs it on a repository."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import corruptors
from tests.test_house import published

CONFIG = """\
repos:
  - repo: {repo}
    rev: {rev}
    hooks:
      - id: dcpctl-check
        args: [--verify-data, --torch, "2.13"]
"""


def hook(repository: Path) -> dict:
    (found,) = yaml.safe_load((repository / ".pre-commit-hooks.yaml").read_text())
    return found


def test_the_hook_looks_at_metadata_and_shard_files(repository: Path) -> None:
    files = re.compile(hook(repository)["files"])
    assert files.search("a/step-1/.metadata")
    assert files.search("a/step-1/__0.metadata")
    assert files.search("a/step-1/__0_0.distcp")
    assert not files.search("a/metadata.json")
    assert not files.search("a/.metadata.tmp")


@pytest.mark.slow
def test_pre_commit_runs_it(repository: Path, samples: Path, tmp_path: Path) -> None:
    environment = published.environment(PRE_COMMIT_HOME=str(tmp_path / "cache"))

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "pre_commit", "run", "--color", "never", *arguments],
            cwd=team, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    config = CONFIG.format(
        repo=tmp_path / "dcpctl", rev=published.publish(repository, tmp_path / "dcpctl")
    )
    team = tmp_path / "team"
    corruptors.copy(samples / "healthy" / "step-8500", team / "exports" / "good")
    (team / "notes.md").write_text("no checkpoint\n")
    (team / ".pre-commit-config.yaml").write_text(config)
    published.commit(team)

    code, said = run("--all-files", "--verbose")
    assert (code, said.count("Passed")) == (0, 1), said
    words = " ".join(said.split())  # as wide as COLUMNS has it
    assert words.count("310 of 310 items verified") == 1  # five files, one check
    packages = {path.name for path in tmp_path.glob("cache/repo*/py_env-*/lib/*/site-packages/*")}
    assert {"dcpctl", "typer", "rich", "numpy"} <= packages
    assert "torch" not in packages

    corruptors.copy(samples / "flipped_bit", team / "exports" / "rotten")
    published.git(team, "add", "--all")
    code, said = run()
    assert code == 1
    assert "dcpctl check" in said
    assert "Failed" in said
    assert "DCP301" in said
    assert "exports/good" not in said  # it is not part of the commit

    published.commit(team)
    code, said = run("--files", "notes.md")
    assert code == 0
    assert "Skipped" in said
