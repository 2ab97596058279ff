"""Shards of different saves in one checkpoint."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from dcpctl.formats.torch_zip import open_item
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from tests.test_check.helpers import check, skipped, the


def writable(source: Path, target: Path) -> Path:
    """A copy that may be changed."""
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


@pytest.fixture
def run(shared: Path, tmp_path: Path) -> Path:
    """A run of two saves by two ranks, all in order."""
    for name in ("step-1", "step-2"):
        writable(shared / "reports" / "node-shards-missing" / "run" / name, tmp_path / name)
    return tmp_path


def test_a_run_in_order_has_no_finding(run: Path) -> None:
    result = check(run / "step-2", "DCP521", "DCP613", against=run / "step-1")
    assert (result.findings, result.skipped) == ((), ())


@pytest.mark.parametrize("rank", [0, 1])
def test_a_file_of_the_save_before_is_found_by_its_moments(run: Path, rank: int) -> None:
    name = f"__{rank}_0.distcp"
    shutil.copy(run / "step-1" / name, run / "step-2" / name)
    found = the(check(run / "step-2", "DCP613", against=run / "step-1"))
    assert (found.severity, found.file) == ("error", name)
    assert f"(of rank {rank})" in found.message
    assert "nothing compared in these files changed" in found.message


def test_a_save_beside_itself(run: Path) -> None:
    """Nothing went on, so nothing is left of an earlier save."""
    shutil.rmtree(run / "step-2")
    shutil.copytree(run / "step-1", run / "step-2")
    assert check(run / "step-2", "DCP613", against=run / "step-1").findings == ()


def test_what_cannot_be_read_is_said(run: Path) -> None:
    (run / "step-2" / "__1_0.distcp").unlink()
    result = check(run / "step-2", "DCP613", against=run / "step-1")
    assert "could not be read" in skipped(result)["DCP613"]


def rewrite_steps(path: Path, rank: int, step: float, most: int | None = None) -> None:
    """Put another number into the steps that a rank's file holds."""
    with open_checkpoint(path) as checkpoint:
        steps = [e for f, e in checkpoint.tensors.items() if f.endswith(".step")]
        places = []
        for entry in [e for e in steps if e.ranks == (rank,)][:most]:
            source = entry.chunk_source(0)
            item = open_item(
                entry.storage_of(0), source.file, source.offset, source.length, subject="step"
            )
            places.append((source.file, item.record("data/0").data_offset))
    assert len(places) > 1
    for file, offset in places:
        with (path / file).open("r+b") as content:
            content.seek(offset)
            content.write(struct.pack("<f", step))


def test_steps_that_differ_by_rank_are_of_different_saves(shared: Path, tmp_path: Path) -> None:
    path = writable(shared / "reports" / "pp-virtual-stages" / "ck-all", tmp_path / "ck")
    assert check(path, "DCP521").findings == ()
    rewrite_steps(path, 1, 7.0)
    found = the(check(path, "DCP521"))
    assert (found.severity, found.file) == ("error", "__0_0.distcp")
    assert "the files of rank 0 hold step 1 " in found.message
    with open_checkpoint(path) as checkpoint:
        view = OptimizerView(checkpoint)
        assert view.verdict == "partial"
        assert "of another save" in view.sentence


def test_some_parameters_that_are_behind_are_not(shared: Path, tmp_path: Path) -> None:
    path = writable(shared / "reports" / "pp-virtual-stages" / "ck-all", tmp_path / "ck")
    rewrite_steps(path, 1, 7.0, most=3)
    assert check(path, "DCP521").findings == ()
