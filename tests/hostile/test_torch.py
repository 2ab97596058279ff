"""torch as the judge: what dcpctl finds no error in, torch loads, and it runs nothing.

The other way round is no claim: torch loads much that dcpctl refuses.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dcpctl.check.engine import run_checks
from dcpctl.check.options import CheckOptions
from dcpctl.errors import InputError
from tests.hostile import item_cases, metadata_cases, numpy_cases, side_cases, value_cases
from tests.hostile.corpus import CASES, Case
from tests.hostile.registry import canary

pytest.importorskip("torch")
MODULES = (item_cases, metadata_cases, numpy_cases, side_cases, value_cases)
JUDGED = [case for case in CASES.values() if case.make.__module__ in {m.__name__ for m in MODULES}]
#: torch loads no values of its own out of these: `dcp_to_torch_save` asks for paths that are not
#: there, or an object's key is a list, which only a dict of objects refuses.
NOT_ASKED = {
    *("planner-data-is-a-number", "planner-data-of-a-planner-of-ones-own"),
    *("value-with-a-record-of-doubled-lists-as-key", "value-of-doubled-lists"),
    "value-of-ten-thousand-levels",
}
Ask = Callable[[Path], dict[str, Any]]


@pytest.fixture(scope="module")
def torch_reads(repository: Path) -> Iterator[Ask]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.torch_reader"],
        cwd=repository,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(path: Path) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer

    yield ask
    process.communicate(timeout=60)


def passes(path: Path, *, security: bool) -> bool:
    options = CheckOptions(
        security=security,
        verify_data=not security,
        torch="2.13",
        select=() if security else ("DCP1", "DCP2", "DCP3", "DCP405"),
    )
    try:
        result = run_checks(path, options)
    except InputError:
        return False
    return not any(finding.severity in ("error", "warning") for finding in result.findings)


@pytest.mark.slow
@pytest.mark.parametrize("case", JUDGED, ids=lambda case: case.name)
def test_what_passes_torch_loads(case: Case, torch_reads: Ask, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    case.make(path)
    if case.runs:
        assert not passes(path, security=True)
    if case.name in NOT_ASKED or not passes(path, security=False):
        return
    answer = torch_reads(path)
    assert "error" not in answer, answer["error"]
    assert not canary(path).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("code-by-a-class-of-sympy", "code-by-state-of-an-ordered-dict", "code-by-partial"),
        *("code-by-state-of-a-tensor", "code-by-function-of-a-tensor", "code-by-popen"),
    ],
)
def test_the_attacks_are_real(name: str, torch_reads: Ask, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    CASES[name].make(path)
    torch_reads(path)
    assert canary(path).exists()
