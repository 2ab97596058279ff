from __future__ import annotations

import os
import shutil
import signal
import threading
from functools import partial
from pathlib import Path

import pytest

from dcpctl.check import parallel
from dcpctl.check.engine import run_checks
from dcpctl.check.many import Target, check_many, find_targets
from dcpctl.check.options import CheckOptions
from dcpctl.check.parallel import run_each
from dcpctl.errors import DcpctlError, NotACheckpoint, NothingSelected
from tests.test_check.helpers import adamw

OPTIONS = CheckOptions(torch="2.13", jobs=3)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Saves 10 to 40; 30 was interrupted."""
    for step in (10, 20, 30, 40):
        adamw(step=step).write(tmp_path / "run" / f"step-{step}")
    metadata = tmp_path / "run" / "step-30" / ".metadata"
    metadata.rename(metadata.with_name(".metadata.tmp"))
    return tmp_path / "run"


def names(paths: tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


def test_a_run_is_its_saves_each_with_those_before(run: Path) -> None:
    found = find_targets(run)
    assert [(target.path.name, names(target.before)) for target in found] == [
        ("step-10", []),
        ("step-20", ["step-10"]),
        ("step-30", []),
        ("step-40", ["step-20", "step-10"]),
    ]


def test_what_is_no_run_is_itself(run: Path, samples: Path, tmp_path: Path) -> None:
    for path in (run / "step-10", run / "step-30", tmp_path / "nothing", samples / "make.py"):
        assert find_targets(path) == (Target(path),)
    parts = tmp_path / "step-7"
    shutil.copytree(run / "step-10", parts / "model_and_optim")
    assert find_targets(parts) == (Target(parts),)


def test_each_save_is_compared_with_the_readable_one_before(run: Path) -> None:
    (run / "step-20" / ".metadata").write_bytes(b"\x80\x04rubbish")
    checked = check_many(find_targets(run), OPTIONS)
    assert [(r.path.name, r.against and r.against.name) for r in checked.results] == [
        ("step-10", None),
        ("step-40", "step-10"),
    ]
    assert [(one.path.name, one.error.id) for one in checked.unreadable] == [
        ("step-20", "malformed-pickle"),
        ("step-30", "interrupted-save"),
    ]
    assert checked.failed()


def test_the_first_save_is_compared_with_what_was_named(run: Path, tmp_path: Path) -> None:
    adamw(step=5).write(tmp_path / "older" / "step-5")
    options = CheckOptions(torch="2.13", against=tmp_path / "older" / "step-5")
    checked = check_many(find_targets(run), options)
    assert [r.against and r.against.name for r in checked.results] == [
        "step-5",
        "step-10",
        "step-20",
    ]


def test_what_cannot_be_compared_with_ends_it(run: Path, tmp_path: Path) -> None:
    with pytest.raises(NotACheckpoint):
        check_many(find_targets(run), CheckOptions(against=tmp_path / "nothing"))
    with pytest.raises(NothingSelected):
        check_many(find_targets(run), CheckOptions(select=("E501",)))


@pytest.mark.parametrize("jobs", [1, 3])
def test_many_find_what_each_alone_does(samples: Path, jobs: int) -> None:
    paths = [samples / name for name in ("flipped_bit", "legacy", "zstd", "silent_reset/step-9500")]
    options = CheckOptions(torch="2.13", jobs=jobs, verify_data=True)
    told: list[tuple[int, int]] = []
    checked = check_many(
        [Target(path) for path in paths], options, advance=lambda *done: told.append(done)
    )
    assert list(checked.results) == [run_checks(path, options) for path in paths]
    assert told == [(done, 4) for done in range(1, 5)]


def test_no_more_at_once_than_asked(tmp_path: Path) -> None:
    def call(number: int) -> tuple[int, int]:
        return number, os.getpid()

    lost = [str] * 6
    answers = run_each([partial(call, n) for n in range(6)], 2, lost=lost)
    assert [number for number, _ in answers] == list(range(6))
    here = {os.getpid()}
    assert {pid for _, pid in run_each([partial(call, 0)], 1, lost=[str])} == here
    threads = threading.Event()
    other = threading.Thread(target=threads.wait)
    other.start()
    try:  # another thread may hold a lock, so nothing is forked
        answers = run_each([partial(call, n) for n in range(6)], 2, lost=lost)
    finally:
        threads.set()
        other.join()
    assert answers == [(n, os.getpid()) for n in range(6)]


@pytest.mark.skipif(not parallel._may_fork(), reason="processes are for Linux")
def test_a_process_that_is_killed_is_one_lost(tmp_path: Path) -> None:
    def killed() -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    def lost(error: DcpctlError) -> str:
        return str(error)

    answers = run_each([killed, lambda: "whole"], 2, lost=[lost, lost])
    assert answers == ["the process that read it was ended by signal 9", "whole"]


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_bug_in_one_ends_all(at_once: int) -> None:
    def broken() -> str:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        run_each([broken, lambda: "whole"], at_once, lost=[str, str])
