"""Surgery is byte work: it imports no torch, and asking for help imports nothing heavy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.test_house.test_cold_start import loaded_by

VERBS = ["upgrade", "reshard", "rename", "drop", "select", "set", "merge", "cast", "edit", "undo"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_light(tmp_path: Path, verb: str) -> None:
    code, modules = loaded_by(tmp_path, verb, "--help")
    assert code == 0
    assert not modules & {"torch", "numpy", "tabulate", "zstandard", "ml_dtypes"}


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("upgrade", ["--torch", "2.13"]),
        ("reshard", ["--world-size", "2"]),
        ("rename", ["layers=blocks"]),
        ("drop", ["lr_scheduler"]),
        ("select", ["--model-only"]),
        ("set", ["lr=1e-4", "step=0"]),
        ("cast", ["--dtype", "bf16", "--allow-lossy"]),
        ("edit", ["--set", "lr=1e-4", "--world-size", "2"]),
    ],
)
def test_no_torch(samples: Path, tmp_path: Path, verb: str, words: list[str]) -> None:
    source, target = samples / "healthy" / "step-8500", tmp_path / "target"
    code, modules = loaded_by(tmp_path, verb, source, target, *words)
    assert code == 0
    assert "torch" not in modules
    assert (target / ".metadata").is_file()


def test_no_torch_in_place_and_back(samples: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(samples / "healthy" / "step-8500", source)
    before = (source / ".metadata").read_bytes()
    for words in (["set", source, "lr=1e-4", "--in-place"], ["undo", source]):
        code, modules = loaded_by(tmp_path, *words)
        assert code == 0
        assert "torch" not in modules
    assert (source / ".metadata").read_bytes() == before
    assert loaded_by(tmp_path, "merge", source, samples / "zstd", tmp_path / "x")[0] == 4
