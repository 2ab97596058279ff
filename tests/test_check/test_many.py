from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from dcpctl.check.engine import run_checks
from dcpctl.check.many import Target, check_many, find_targets
from dcpctl.check.options import CheckOptions
from dcpctl.errors import NotACheckpoint, NothingSelected
from dcpctl.processes import run_each
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
    assert [path.name for path in checked.order] == ["step-10", "step-20", "step-30", "step-40"]


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


FORKED = """
import os, signal, sys
from functools import partial
from dcpctl.processes import run_each

def call(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        os._exit(7)
    return number, os.getpid()

def lost(number, error):
    return number, error.message

told = []
count = 40
answers = run_each(
    [partial(call, number) for number in range(count)],
    3,
    lost=[partial(lost, number) for number in range(count)],
    advance=lambda *done: told.append(done),
)
assert [number for number, _ in answers] == list(range(count))
said = {number: what for number, what in answers if isinstance(what, str)}
assert said == {
    3: "the process that read it was ended by signal 9",
    5: "the process that read it ended with code 7",
}
pids = {pid for _, pid in answers if isinstance(pid, int)}
assert 1 <= len(pids) <= 5 and os.getpid() not in pids, pids
assert told == [(done, count) for done in range(1, count + 1)]

def broken():
    raise KeyError("a bug")

try:
    run_each([broken, partial(call, 1)], 2, lost=[str, str])
except KeyError as error:
    print(error)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child is left")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are for Linux")
def test_processes_and_what_becomes_of_them(repository: Path) -> None:
    """In a process of its own: where others run threads, as pytest-xdist does, nothing forks."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, cwd=repository, check=False
    )
    assert (done.stdout, done.stderr) == ("'a bug'\nno child is left\n", "")


def test_one_at_a_time_and_beside_other_threads_nothing_forks() -> None:
    def call(number: int) -> tuple[int, int]:
        return number, os.getpid()

    calls = [partial(call, number) for number in range(6)]
    other = threading.Event()
    thread = threading.Thread(target=other.wait)
    thread.start()  # it may hold a lock, which would stay locked in a child
    try:
        for at_once in (1, 2):
            answers = run_each(calls, at_once, lost=[str] * 6)
            assert answers == [(number, os.getpid()) for number in range(6)]
    finally:
        other.set()
        thread.join()


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_bug_in_one_ends_all(at_once: int) -> None:
    def broken() -> str:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        run_each([broken, lambda: "whole"], at_once, lost=[str, str])


@pytest.mark.skipif(sys.platform != "linux", reason="processes are for Linux")
def test_the_command_finds_the_same_in_processes(samples: Path, repository: Path) -> None:
    run = samples / "silent_reset"
    printed = [
        subprocess.run(
            [sys.executable, "-m", "dcpctl", "check", run, samples / "legacy", "--jobs", jobs],
            capture_output=True,
            text=True,
            cwd=repository,
            check=False,
        ).stdout
        for jobs in ("1", "3")
    ]
    assert printed[0] == printed[1] != ""
