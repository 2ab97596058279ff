"""Colours and widths on a real terminal, and where there is none."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HEALTHY = "sample_checkpoints/healthy/step-8500"


def clean(**environment: str) -> dict[str, str]:
    """The environment without anything that decides on colours or widths."""
    names = ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS")
    return {**{k: v for k, v in os.environ.items() if k not in names}, **environment}


def on_terminal(*arguments: str, columns: int = 80, **environment: str) -> str:
    """What a command writes to a terminal of so many columns."""
    main, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "dcpctl", *arguments],
        cwd=REPOSITORY,
        env=clean(**{"TERM": "xterm-256color", **environment}),
        stdin=child,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    written = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(main)
    assert process.wait() in (0, 3)
    return written.decode()


def piped(*arguments: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "dcpctl", *arguments],
        cwd=REPOSITORY,
        env=clean(**environment),
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize(
    ("environment", "options", "colored"),
    [
        ({}, [], True),
        ({"NO_COLOR": "1"}, [], False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, [], False),
        ({"TERM": "dumb"}, [], False),
        ({"TERM": "dumb"}, ["--color", "always"], True),
        ({"NO_COLOR": "1"}, ["--color", "always"], True),
        ({}, ["--color", "never"], False),
    ],
)
def test_colour_on_a_terminal(environment: dict, options: list[str], colored: bool) -> None:
    assert ("\x1b" in on_terminal("inspect", HEALTHY, *options, **environment)) == colored


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "--help"], ["--version"],
                                       ["inspect", "sample_checkpoints/hostile"]])  # fmt: skip
def test_no_color_means_no_escape_anywhere(arguments: list[str]) -> None:
    assert "\x1b" not in on_terminal(*arguments, NO_COLOR="1")


def test_colour_in_a_pipe_only_when_forced() -> None:
    assert "\x1b" not in piped("inspect", HEALTHY)
    assert "\x1b" in piped("inspect", HEALTHY, FORCE_COLOR="1")
    assert "\x1b" not in piped("inspect", HEALTHY, FORCE_COLOR="0")


@pytest.mark.parametrize("columns", [30, 60, 80, 120])
@pytest.mark.parametrize("view", [[], ["--keys"], ["--optimizer"], ["--files"]], ids=" ".join)
def test_nothing_is_wider_than_the_terminal(columns: int, view: list[str]) -> None:
    shown = on_terminal("inspect", HEALTHY, *view, columns=columns, NO_COLOR="1")
    assert max(len(line) for line in shown.splitlines()) <= columns


def test_a_terminal_that_knows_no_unicode() -> None:
    shown = on_terminal("inspect", HEALTHY, "--tree", PYTHONIOENCODING="ascii", NO_COLOR="1")
    assert "|- " in shown
    assert shown.isascii()
