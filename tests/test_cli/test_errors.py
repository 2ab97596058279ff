"""Every way in which a command can end has its code, and says why on stderr in a line or two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpctl.cli import shell
from dcpctl.cli.app import app

HEALTHY = "healthy/step-8500"


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dcpctl", *arguments],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def invoke(*arguments: str | Path):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("sample", "code", "identifier"),
    [
        ("hostile", 3, "unsafe-pickle"),
        ("interrupted", 3, "interrupted-save"),
        ("no-such-directory", 3, "not-a-checkpoint"),
        ("make.py", 3, "not-a-checkpoint"),
    ],
)
@pytest.mark.parametrize("verb", ["inspect", "check"])
def test_unreadable_input(
    samples: Path, verb: str, sample: str, code: int, identifier: str
) -> None:
    done = invoke(verb, samples / sample)
    assert (done.exit_code, done.stdout) == (code, "")
    first, *hints = done.stderr.splitlines()
    assert first.startswith(f"error[{identifier}]: ")
    assert all(line.startswith("  hint: ") for line in hints)


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect"],
        ["inspect", ".", "--no-such-option"],
        ["inspect", ".", "--format", "pdf"],
        ["inspect", ".", "--json", "--format", "text"],
        ["inspect", ".", "--json", "--table-style", "grid"],
        ["inspect", ".", "--format", "markdown", "--table-style", "grid"],
        ["inspect", ".", "--tree", "--files"],
        ["inspect", ".", "--chunks"],
        ["inspect", ".", "--tree", "--json", "--chunks"],
        ["check"],
        ["check", ".", "--max-findings", "-1"],
        ["check", ".", "--expect-step", "many"],
        ["check", ".", "--torch", "newest"],
        ["no-such-verb"],
    ],
    ids=" ".join,
)
def test_usage(arguments: list[str]) -> None:
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error[usage]: ")
    assert done.stderr.count("\n") <= 2


def test_no_table_style_of_that_name(samples: Path) -> None:
    done = invoke("inspect", samples / HEALTHY, "--table-style", "marble")
    assert done.exit_code == 2
    assert "github" in done.stderr


@pytest.mark.parametrize(
    "options",
    [["--keys", "no.such.*"], ["--key", "no.such"], ["--stats", "lr_scheduler.*"]],
    ids=" ".join,
)
def test_nothing_selected(samples: Path, options: list[str]) -> None:
    done = invoke("inspect", samples / HEALTHY, *options)
    assert (done.exit_code, done.stdout) == (4, "")
    assert done.stderr.startswith(("error[nothing-selected]", "error[unknown-key]"))


def test_findings_are_exit_code_one(samples: Path) -> None:
    assert invoke("check", samples / "flipped_bit", "--verify-data").exit_code == 1
    assert invoke("check", samples / "flipped_bit", "--verify-data", "--exit-zero").exit_code == 0


def test_output_that_cannot_be_written(samples: Path, tmp_path: Path) -> None:
    done = invoke("inspect", samples / HEALTHY, "--output", tmp_path / "no" / "file")
    assert done.exit_code == 5
    assert done.stderr.startswith("error[io-failed]: cannot write ")


def test_a_bug_is_one_line_unless_asked(monkeypatch, samples: Path) -> None:
    def broken(*_: object) -> None:
        raise KeyError("it\x1b[31m")

    monkeypatch.setattr("dcpctl.inspect.summary.summarize", broken)
    done = invoke("inspect", samples / HEALTHY)
    assert done.exit_code == 70
    assert done.stderr.startswith("error[internal]: KeyError: ")
    assert "report it" in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    monkeypatch.setenv(shell.DEBUG, "1")
    assert "Traceback" in invoke("inspect", samples / HEALTHY).stderr


def test_an_interrupt_is_130(monkeypatch, samples: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dcpctl.inspect.summary.summarize", interrupted)
    done = invoke("inspect", samples / HEALTHY)
    assert (done.exit_code, done.output) == (130, "")


#: `inspect` in the middle: it says so, and goes on once it can read a line, which never comes.
STANDING = """
import sys
from dcpctl.cli.main import main
import dcpctl.inspect.summary as summary
def stands(*_, **__):
    sys.stderr.write("."); sys.stderr.flush(); sys.stdin.readline()
summary.summarize = stands
main()
"""


def test_ctrl_c_in_a_real_process(samples: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STANDING, "inspect", samples / HEALTHY],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.read(1) == "."
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stdout is not None
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


@pytest.mark.parametrize("options", [[], ["--json", "--chunks"], ["--format", "table"]])
def test_a_closed_pipe_is_141_without_a_word(samples: Path, options: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "dcpctl", "inspect", samples / HEALTHY, *options],
        cwd=Path(__file__).resolve().parents[2],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_process_ends_as_the_runner_does(samples: Path) -> None:
    done = run("inspect", samples / "hostile")
    assert done.returncode == 3
    assert done.stderr.startswith("error[unsafe-pickle]: ")
    assert run("--version").stdout.startswith("dcpctl ")
    assert run().stdout.startswith("Usage: dcpctl ")
