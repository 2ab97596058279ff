"""The progress line: only for a watcher, only after a second, gone at the end."""

from __future__ import annotations

import io

import pytest

from dcpctl import progress
from dcpctl.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("TERM", "xterm")
    return now


def test_quick_work_draws_nothing(clock: list[float]) -> None:
    screen = Terminal()
    with Progress("reading", 10, stream=screen) as bar:
        clock[0] += 0.9
        bar.advance(10)
    assert screen.getvalue() == ""


def test_slow_work_draws_a_line_and_takes_it_away(clock: list[float]) -> None:
    screen = Terminal()
    with Progress("reading", 10_000_000, stream=screen) as bar:
        clock[0] += 2
        bar.advance(5_000_000)
        assert "reading" in screen.getvalue()
        assert "50%" in screen.getvalue()
        assert "2 MB/s  0:02 left" in screen.getvalue()
        drawn = len(screen.getvalue())
        bar.advance(1)
        assert len(screen.getvalue()) == drawn  # not more than ten times a second
    last = screen.getvalue().rstrip("\r").rpartition("\r")[2]
    assert last.strip() == ""
    assert screen.getvalue().endswith("\r")
    assert "\x1b" not in screen.getvalue()


def test_nobody_watches(clock: list[float], monkeypatch) -> None:
    plain = io.StringIO()
    dumb = Terminal()
    for screen in (plain, dumb):
        with Progress("reading", 10, stream=screen) as bar:
            clock[0] += 5
            bar.reach(3, 10)
            monkeypatch.setenv("TERM", "dumb")
        assert screen.getvalue() == ""


def test_an_unknown_total(clock: list[float]) -> None:
    screen = Terminal()
    with Progress("looking", 0, unit="saves", stream=screen) as bar:
        clock[0] += 2
        bar.advance()
    assert "1 saves" in screen.getvalue()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0:01"), (59.5, "1:00"), (750, "12:30"), (3750, "1:02:30"), (1e6, "11 days")],
)
def test_what_is_left_is_said_as_a_clock_has_it(seconds: float, said: str) -> None:
    assert progress._span(seconds) == said


def test_nothing_is_said_to_be_left_of_what_has_no_end(clock: list[float]) -> None:
    screen = Terminal()
    with Progress("looking", 0, unit="saves", stream=screen) as bar:
        clock[0] += 2
        bar.advance(4)
        assert screen.getvalue().endswith("looking  4 saves  2 saves/s")
