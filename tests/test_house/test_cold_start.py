"""What a command imports: starting must be quick, and byte work must not need torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

#: Runs the CLI in this process, then writes the top-level modules that are loaded to argv[1].
PROBE = """
import json, runpy, sys
report, sys.argv[1:] = sys.argv[1], sys.argv[2:]
try:
    runpy.run_module("dcpctl", run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code or 0
else:
    code = 0
with open(report, "w") as file:
    json.dump([code, sorted({name.split(".")[0] for name in sys.modules})], file)
"""


def loaded_by(tmp_path: Path, *arguments: str | Path) -> tuple[int, set[str]]:
    report = tmp_path / "loaded.json"
    done = subprocess.run(
        [sys.executable, "-c", PROBE, report, *arguments],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), done.stderr
    code, modules = json.loads(report.read_text())
    return code, set(modules)


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["inspect", "--help"], ["check", "--help"]]
)
def test_starting_is_light(tmp_path: Path, arguments: list[str]) -> None:
    code, modules = loaded_by(tmp_path, *arguments)
    assert code == 0
    assert not modules & {"torch", "numpy", "tabulate", "zstandard", "ml_dtypes"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect"],
        ["inspect", "--json", "--chunks"],
        ["inspect", "--keys", "*"],
        ["inspect", "--optimizer"],
        ["check"],
        ["check", "--verify-data", "--values"],
    ],
    ids=" ".join,
)
def test_byte_work_imports_no_torch(tmp_path: Path, samples: Path, arguments: list[str]) -> None:
    verb, *options = arguments
    code, modules = loaded_by(tmp_path, verb, samples / "healthy" / "step-8500", *options)
    assert code in (0, 1)
    assert "torch" not in modules
