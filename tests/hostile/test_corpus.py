"""Every hostile input ends in its named error, quickly, in little memory, and does nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.corpus import CASES, Case
from tests.hostile.registry import canary

SECONDS = 5
BYTES = 500_000_000
#: Files of more bytes are sparse; their stat is compared instead of their content.
LARGEST_HASHED = 64 << 20


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
    assert fingerprint(root) == before
    assert not canary(path).exists()
    harmless(answer)
    assert answer["opens"] == case.opens, answer["message"]
    assert set(answer["reads"]) == case.reads, answer["message"]
    assert case.subject in answer["message"]
    assert "\x1b" not in answer["message"]


def test_there_are_enough() -> None:
    assert len(CASES) >= 60
