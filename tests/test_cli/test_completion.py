"""The shell completes commands and options; one option prints the whole manual."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dcpctl.cli.commands import Commands


def dcpctl(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dcpctl", *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("dcpctl re", {"repair", "rename", "reshard"}),
        ("dcpctl reshard --world", {"--world-size"}),
        ("dcpctl check --verify", {"--verify-data"}),
        ("dcpctl --help", {"--help", "--help-all"}),
    ],
)
def test_bash_is_offered_what_fits(typed: str, offered: set[str]) -> None:
    number = str(len(typed.split()) - 1)
    said = dcpctl(_DCPCTL_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=number)
    assert set(said.split()) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    assert "_DCPCTL_COMPLETE=" in dcpctl("--show-completion", shell)


def test_help_of_all_commands() -> None:
    said = dcpctl("--help-all")
    assert said.startswith("Usage: dcpctl [OPTIONS] COMMAND")
    for name in Commands():
        assert f"\nUsage: dcpctl {name} " in said
    assert dcpctl("check", "--help").rstrip() in said
