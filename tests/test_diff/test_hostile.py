"""Every hostile input can be compared, or is refused by name: quickly, and nothing is executed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.corpus import CASES, Case
from tests.hostile.registry import canary
from tests.hostile.test_corpus import CONTROL, FORGED, Server, fingerprint, harmless


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    made = Server(repository)
    yield made
    made.close()


#: Those that end in a way of their own are in the gate; all are in the soak.
SOME = [
    *("block-names-that-look-like-records", "path-with-nul", "path-with-surrogates"),
    "value-with-a-record-of-doubled-lists-as-key",
    *list(CASES)[::20],
]


@pytest.mark.parametrize("name", SOME)
def test_hostile_input_is_compared_or_refused(
    name: str, server: Server, samples: Path, tmp_path: Path
) -> None:
    compare(CASES[name], server, samples, tmp_path)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("name", CASES)
def test_all_hostile_input(name: str, server: Server, samples: Path, tmp_path: Path) -> None:
    compare(CASES[name], server, samples, tmp_path)


def compare(case: Case, server: Server, samples: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    case.make(path)
    before = fingerprint(path)
    healthy = str(samples / "healthy" / "step-8500")
    for pair in ([healthy, str(path)], [str(path), str(path), "--values"]):
        answer = server.ask(path, ["diff", *pair])
        harmless(answer)
        assert not re.search(r"Traceback|error\[internal\]", answer["err"])
        assert not CONTROL.search(answer["out"] + answer["err"])
        assert not FORGED.search(answer["out"])
        if case.opens:
            assert answer["code"] == 3 and f"error[{case.opens}]" in answer["err"]
        else:
            assert answer["code"] in (0, 1, 3)
    assert fingerprint(path) == before
    assert not canary(path).exists()
