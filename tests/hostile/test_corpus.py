"""Every hostile input ends in its named error, quickly, in little memory, and does nothing."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import name_cases
from tests.hostile.corpus import CASES, Case
from tests.hostile.registry import canary

SECONDS = 5
BYTES = 500_000_000
#: Files of more bytes are sparse; their stat is compared instead of their content.
LARGEST_HASHED = 64 << 20
COMMANDS = (
    ("inspect", ["--json"]),
    (
        "check",
        ["--json", "--verify-data", "--values", "--strict", "--select", "DCP1xx,DCP2xx,DCP3xx"],
    ),
)
VIEWS = (
    *(["inspect"], ["inspect", "--keys"], ["inspect", "--tree"], ["inspect", "--optimizer"]),
    *(["inspect", "--keys", "--format", "table"], ["inspect", "--keys", "--format", "markdown"]),
    *(["inspect", "--chunks", "--json"], ["check"], ["check", "--format", "markdown"]),
)
NAMES = [case for case in CASES.values() if case.make.__module__ == name_cases.__name__]
#: What moves a cursor, rings a bell, or turns the line around. JSON and text end lines with \n.
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff]")
#: How a finding says that loading executes something.
_SAID = re.compile("runs code|loading it with torch calls")
#: Lines that only a name could have made.
FORGED = re.compile(r"^(DCP103 error forged|::error)", re.MULTILINE)


class Server:
    """The other end of `tests.hostile.server`."""

    def __init__(self, repository: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.server"],
            cwd=repository,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, path: Path, command: list[str]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"path": str(path), "command": command}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        self.process.communicate(timeout=60)


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[Server]:
    made = Server(repository)
    yield made
    made.close()


def fingerprint(root: Path) -> dict[str, Any]:
    """What everything at and below `root` is, to be compared before and after."""
    found: dict[str, Any] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file() and status.st_size <= LARGEST_HASHED:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


def harmless(answer: dict[str, Any]) -> None:
    """Assert what holds for every case."""
    assert "traceback" not in answer, answer["traceback"]
    assert answer["did"] == []
    assert answer["seconds"] < SECONDS
    assert answer["rss"] < BYTES


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_ends_in_its_error(case: Case, server: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    path = root / "checkpoint"
    case.make(path)
    before = fingerprint(root)
    answer = server.ask(path, [])
    answers = [server.ask(path, [command, str(path), *options]) for command, options in COMMANDS]
    assert fingerprint(root) == before
    assert not canary(path).exists()
    harmless(answer)
    assert answer["opens"] == case.opens, answer["message"]
    assert set(answer["reads"]) == case.reads, answer["message"]
    assert case.subject in answer["message"]
    assert "\x1b" not in answer["message"]
    for run in answers:
        harmless(run)
        assert "Traceback" not in run["err"]
        assert not CONTROL.search(run["out"] + run["err"])
    if case.opens:
        refused(case, answers)
    else:
        reported(case, *answers)


def refused(case: Case, answers: list[dict[str, Any]]) -> None:
    """Both commands say why, and exit with the code for an input that is no checkpoint."""
    for answer in answers:
        assert answer["code"] == 3
        assert f"error[{case.opens}]" in answer["err"]
        assert case.subject in answer["err"]


def reported(case: Case, inspected: dict[str, Any], checked: dict[str, Any]) -> None:
    """`inspect` shows what there is, and `check` finds what is wrong with it."""
    assert inspected["code"] == 0
    assert json.loads(inspected["out"])["entries"]
    findings = json.loads(checked["out"])["findings"]
    rules = {found["rule"] for found in findings}
    if case.runs:
        assert any(f["severity"] == "error" and _SAID.search(f["message"]) for f in findings)
    assert case.finding in rules or not case.finding, rules
    assert checked["code"] == (1 if case.finding else 0), rules


@pytest.mark.parametrize("view", VIEWS, ids=" ".join)
@pytest.mark.parametrize("case", NAMES, ids=lambda case: case.name)
def test_names_stay_text(case: Case, view: list[str], server: Server, tmp_path: Path) -> None:
    case.make(tmp_path / "checkpoint")
    answer = server.ask(tmp_path, [view[0], str(tmp_path / "checkpoint"), *view[1:]])
    harmless(answer)
    assert answer["code"] in (0, 1)
    assert not CONTROL.search(answer["out"] + answer["err"])
    assert not FORGED.search(answer["out"])


def test_there_are_enough() -> None:
    assert len(CASES) >= 60
