"""The GitHub action: its steps' scripts are run as the runner runs them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

_EXPRESSION = re.compile(r"\$\{\{ *(.*?) *\}\}")


@dataclass(frozen=True)
class Ran:
    """What a job shows of a step that used the action."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str


@dataclass
class Job:
    """A runner's job with a checkout of some repository, which uses the action."""

    action: dict[str, Any]
    path: Path
    workspace: Path
    temp: Path

    def use(self, *, steps: slice = slice(None), **given: str) -> Ran:
        """Run steps of the action with these inputs (`_` for `-`)."""
        assert set(given) <= set(self.action["inputs"])
        known = self.action["inputs"].items()
        inputs = {name: str(spec.get("default", "")) for name, spec in known} | given
        files = {name: self.temp / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        log, code, outputs = "", 0, {}
        for step in self.action["runs"]["steps"][steps]:
            done = self._run(step, inputs, {name: str(file) for name, file in files.items()})
            log, code = log + done.stdout, done.returncode
            if step.get("id"):
                lines = files["GITHUB_OUTPUT"].read_text().splitlines()
                outputs = dict(line.split("=", 1) for line in lines)
            if code:
                break
        shown = {
            name: outputs.get(str(self._inside(spec["value"])).removeprefix("steps.check.outputs."))
            for name, spec in self.action["outputs"].items()
        }
        summary = files["GITHUB_STEP_SUMMARY"].read_text()
        return Ran(code, log, {name: text for name, text in shown.items() if text}, summary)

    @staticmethod
    def _inside(text: str) -> str:
        match = _EXPRESSION.fullmatch(text)
        assert match
        return match[1]

    def _run(
        self, step: dict[str, Any], inputs: dict[str, str], files: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        script = self.temp / "step.sh"
        script.write_text(step["run"])
        given = {
            name: inputs[self._inside(value).removeprefix("inputs.")]
            for name, value in step["env"].items()
        }
        assert step["shell"] == "bash"
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=self.workspace,
            env={
                "PATH": os.environ["PATH"],
                "HOME": os.environ.get("HOME", "/"),
                **{k: v for k, v in os.environ.items() if k.startswith("PIP_")},
                "CI": "true",
                "GITHUB_ACTIONS": "true",
                "GITHUB_ACTION_PATH": str(self.path),
                "GITHUB_WORKSPACE": str(self.workspace),
                "RUNNER_TEMP": str(self.temp),
                **files,
                **given,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def action(repository: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((repository / "action.yml").read_text()))


@pytest.fixture
def job(action: dict[str, Any], repository: Path, samples: Path, tmp_path: Path) -> Job:
    """With dcpctl in place as the first step would have put it."""
    python, tree = shlex.quote(sys.executable), shlex.quote(str(repository))
    install(tmp_path / "temp", f'PYTHONPATH={tree} exec {python} -m dcpctl "$@"')
    workspace = tmp_path / "work"
    for name in ("healthy/step-8500", "flipped_bit"):
        shutil.copytree(samples / name, workspace / "exports" / Path(name).name)
    return Job(action, repository, workspace, tmp_path / "temp")


def install(temp: Path, command: str) -> None:
    """Put a dcpctl where the first step does, which notes its arguments."""
    (temp / "dcpctl" / "bin").mkdir(parents=True, exist_ok=True)
    dcpctl = temp / "dcpctl" / "bin" / "dcpctl"
    dcpctl.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" > {temp}/arguments\n{command}\n')
    dcpctl.chmod(0o755)
    python = dcpctl.with_name("python")
    if not python.exists():
        python.symlink_to(sys.executable)


def arguments(job: Job) -> list[str]:
    """What dcpctl was given."""
    return (job.temp / "arguments").read_text().split("\0")[:-1]


CHECK = slice(1, None)


def test_nothing_is_pasted_into_scripts(action: dict[str, Any]) -> None:
    assert action["runs"]["using"] == "composite"
    for step in action["runs"]["steps"]:
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"
    named = {
        Job._inside(value).removeprefix("inputs.")
        for step in action["runs"]["steps"]
        for value in step["env"].values()
    }
    assert named == set(action["inputs"])


@pytest.mark.slow
def test_action_and_workflow_have_the_form_that_github_asks_for(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-actions",
         repository / "action.yml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_findings(job: Job) -> None:
    ran = job.use(steps=CHECK, paths="exports/*", args="--verify-data  --torch 2.13", strict="true")
    assert ran.code == 1
    (error,) = (line for line in ran.log.splitlines() if line.startswith("::"))
    assert error.startswith("::error file=exports/flipped_bit/__2_0.distcp,title=DCP301 ")
    assert ran.outputs == {"exit-code": "1", "sarif": "dcpctl.sarif"}
    log = json.loads((job.workspace / "dcpctl.sarif").read_text())
    assert [result["ruleId"] for result in log["runs"][0]["results"]] == ["DCP301"]
    assert ran.summary.startswith("## 2 checkpoints")
    assert "| DCP301 | error |" in ran.summary
    assert arguments(job)[-5:] == ["--torch", "2.13", "--", "exports/flipped_bit",
                                   "exports/step-8500"]  # fmt: skip
    assert "--strict" in arguments(job)


def test_nothing_found(job: Job) -> None:
    ran = job.use(steps=CHECK, paths="exports/step-8500\n", junit="out.xml", sarif="")
    assert ran.code == 0
    assert ran.outputs == {"exit-code": "0", "junit": "out.xml"}
    assert (job.workspace / "out.xml").read_text().startswith("<?xml")
    assert not (job.workspace / "dcpctl.sarif").exists()
    assert "::" not in ran.log
    assert "nothing wrong found" in ran.summary


def test_unreadable(job: Job) -> None:
    (job.workspace / "empty dir").mkdir()
    ran = job.use(steps=CHECK, paths="exports/step-8500\nempty dir", summary="false")
    assert ran.code == 3
    assert ran.outputs == {"exit-code": "3", "sarif": "dcpctl.sarif"}
    assert ran.summary == ""
    assert "::error file=empty dir,title=not-a-checkpoint::" in ran.log


def test_wrong_options_leave_no_report_of_an_earlier_step(job: Job) -> None:
    job.use(steps=CHECK, paths="exports/step-8500")
    ran = job.use(steps=CHECK, paths="exports/step-8500", args="--no-such-option")
    assert ran.code == 2
    assert ran.outputs == {"exit-code": "2"}
    assert ran.summary == ""


def test_waived_findings_are_no_alerts(job: Job) -> None:
    """GitHub opens an alert for a suppressed result as for any other."""
    args = "--verify-data --torch 2.13 --baseline known.toml"
    job.use(steps=CHECK, paths="exports/*", args=f"{args} --update-baseline")
    ran = job.use(steps=CHECK, paths="exports/*", args=args)
    assert ran.code == 0, ran.log
    assert "1 waived" in ran.log
    (run,) = json.loads((job.workspace / "dcpctl.sarif").read_text())["runs"]
    assert run["results"] == []
    assert run["tool"]["driver"]["rules"]


def test_policy(job: Job) -> None:
    job.use(steps=CHECK, paths="exports/step-8500", policy="my policy.toml")
    given = arguments(job)
    assert given[given.index("--policy") + 1] == "my policy.toml"


@pytest.mark.parametrize("evil", ["$(touch pwned)", "`touch pwned`", "; touch pwned #",
                                  "'; touch pwned; '", '"; touch pwned; "', "-rf *",
                                  "a\nexit-code=0\ntouch pwned"])  # fmt: skip
def test_inputs_are_no_code(job: Job, evil: str) -> None:
    install(
        job.temp,
        """for one; do case $one in sarif=*) echo '{"runs": []}' > "${one#sarif=}"; esac; done\n"""
        "exit 1",
    )
    for name in job.action["inputs"]:
        ran = job.use(steps=CHECK, **{"paths": "exports/flipped_bit", name: evil})
        assert ran.outputs["exit-code"] == "1"
        assert not (job.workspace / "pwned").exists(), name
        words = {"paths": evil.split("\n"), "args": evil.split()}.get(name, [])
        assert set(words) <= set(arguments(job))


def test_a_python_that_is_too_old_or_absent(job: Job) -> None:
    for python in ("no-such-python", "false"):
        ran = job.use(paths="exports/*", python=python)
        assert ran.code == 1
        assert ran.log.splitlines()[-1].startswith("::error::dcpctl needs Python 3.10 or newer;")


@pytest.mark.slow
def test_from_a_fresh_runner(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both steps, the installation included, with nothing prepared."""
    monkeypatch.setenv("PIP_NO_COMPILE", "1")  # it would take longer than all else
    shutil.rmtree(job.temp / "dcpctl")
    ran = job.use(paths="exports/*", args="--verify-data", python=sys.executable)
    assert ran.code == 1, ran.log
    assert ran.outputs["exit-code"] == "1"
    assert "::error file=exports/flipped_bit/__2_0.distcp,title=DCP301 " in ran.log
    assert not list(job.temp.glob("dcpctl/lib/*/site-packages/torch"))
