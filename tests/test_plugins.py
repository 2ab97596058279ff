"""Entry points of other distributions, found without paying for it where there are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROBE = """
import sys
from dcpctl.plugins import entry_points
found = [(one.name, one.value) for one in entry_points("dcpctl.greetings")]
print(found, "importlib.metadata" in sys.modules)
"""


def probe(*places: Path) -> str:
    path = os.pathsep.join(map(str, [*places, ROOT]))
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROBE],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_where_there_are_none_nothing_is_imported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    assert probe(tmp_path, tmp_path / "file", tmp_path / "nowhere") == "[] False"


@pytest.mark.parametrize("kind", ["dist-info", "egg-info"])
def test_they_are_sorted_by_name(tmp_path: Path, kind: str) -> None:
    for name in ("b", "a"):
        info = tmp_path / f"{name}-1.0.{kind}"
        info.mkdir()
        meta = "PKG-INFO" if kind == "egg-info" else "METADATA"
        (info / meta).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[dcpctl.greetings]\n{name} = m{name}:x\n")
    assert probe(tmp_path) == "[('a', 'ma:x'), ('b', 'mb:x')] True"
