"""A form of a lab's own: one file in another package, found by its entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dcpctl.formats.layouts import ENTRY_POINTS

READER = '''
"""Bare float32 numbers in NAME.f32, described by shapes.json."""

import json

import numpy as np

from dcpctl.formats.form import Form
from dcpctl.formats.records import ChunkTable, StoredCheckpoint, StoredTensor

FORM = Form("lab-raw", "the lab's raw numbers", unread="only the lab reads it")


def recognises(names):
    return "shapes.json" in names


def read(storage):
    shapes = json.loads(storage.read_all("shapes.json", 1 << 20))
    stored = StoredCheckpoint(FORM, files=[f"{fqn}.f32" for fqn in shapes])
    for number, (fqn, shape) in enumerate(shapes.items()):
        length = 4 * int(np.prod(shape))
        table = ChunkTable(
            np.zeros((1, len(shape)), np.int64),
            np.array([shape], np.int64),
            np.array([number], np.int32),
            np.zeros(1, np.int64),
            np.array([length], np.int64),
        )
        stored.entries[fqn] = StoredTensor(fqn, tuple(shape), "float32", table, encoding="raw")
    stored.metadata_file = "shapes.json"
    return stored
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory as pip leaves one: the package and what it offers."""
    site = tmp_path / "site"
    info = site / "lab_forms-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-forms\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\nlab-raw = lab_forms\n")
    (site / "lab_forms.py").write_text(READER)
    return site


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "shapes.json").write_text(json.dumps({"w": [3, 4], "b": [5]}))
    np.arange(12, dtype="<f4").tofile(saved / "w.f32")
    np.full(5, 2, dtype="<f4").tofile(saved / "b.f32")
    return saved


def _run(site: Path | None, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    paths = [str(site)] if site else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *sys.path])}
    return subprocess.run(
        [sys.executable, "-m", "dcpctl", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_it_is_inspected_checked_and_made_a_dcp_checkpoint(
    site: Path, saved: Path, tmp_path: Path
) -> None:
    done = _run(site, "inspect", saved)
    assert done.returncode == 0, done.stderr
    assert "the lab's raw numbers, written by no torch release" in done.stdout
    checked = _run(site, "check", "--json", "--torch", "2.13", saved)
    rules = {finding["rule"] for finding in json.loads(checked.stdout)["findings"]}
    assert "DCP407" in rules, checked.stdout

    made = _run(site, "upgrade", "--torch", "2.13", saved, tmp_path / "made")
    assert made.returncode == 0, made.stderr
    from dcpctl import open_checkpoint

    with open_checkpoint(tmp_path / "made") as checkpoint:
        assert checkpoint.format == "dcp"
        assert checkpoint.tensors["w"][:].tolist() == np.arange(12.0).reshape(3, 4).tolist()
        assert checkpoint.tensors["b"][:].tolist() == [2.0] * 5


def test_without_the_package_it_is_no_checkpoint(saved: Path) -> None:
    assert _run(None, "inspect", saved).returncode == 3


def test_a_package_that_cannot_be_imported_is_named(site: Path, saved: Path) -> None:
    (site / "lab_forms.py").write_text("import nowhere_to_be_found\n")
    done = _run(site, "inspect", saved)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'lab-raw'" in done.stderr and "nowhere_to_be_found" in done.stderr
    assert "Traceback" not in done.stderr
