"""Wrecks of real runs: a save whose processes were killed, every layout of every release."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from dcpctl.errors import Refused
from dcpctl.model.opening import open_checkpoint
from dcpctl.repair.engine import repair, salvage
from dcpctl.repair.options import RepairOptions
from tests.test_repair.wrecks import meaning, mend, wreck

#: Saves of one run, each a wreck beside each other.
RUNS = ("torch/uninterrupted", "torch/resumed_model_only")


def test_a_killed_save_is_what_was_in_memory(shared: Path, tmp_path: Path) -> None:
    """All ranks of the run were killed by SIGKILL before rank 0 wrote the metadata."""
    case = shared / "frameworks" / "torch" / "interrupted_nometa"
    known = json.loads((case / "expected.json").read_text())
    mended = mend("repair", case / known["interrupted"], tmp_path / "made", case / known["healthy"])
    assert mended.survey.verified == mended.survey.items == 208
    truth = known["entries"][known["interrupted"]]
    with open_checkpoint(tmp_path / "made") as checkpoint:
        for fqn, entry in truth.items():
            held = checkpoint.tensors[fqn]
            assert (list(held.shape), held.dtype) == (entry["shape"], entry["dtype"])
            assert hashlib.sha256(held.numpy().tobytes()).hexdigest() == entry["sha256"]
        assert len(checkpoint) == 82


def test_torch_loads_the_killed_save(shared: Path, tmp_path: Path, torch: object) -> None:
    from tests.test_surgery.oracle import by_torch

    case = shared / "frameworks" / "torch" / "interrupted_nometa"
    known = json.loads((case / "expected.json").read_text())
    mend("repair", case / known["interrupted"], tmp_path / "made", case / known["healthy"])
    read = by_torch(tmp_path / "made")
    for fqn, entry in known["entries"][known["interrupted"]].items():
        assert read[fqn] == (entry["dtype"], tuple(entry["shape"]), entry["sha256"])


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_every_save_of_a_run_by_every_other(shared: Path, tmp_path: Path, run: str) -> None:
    saves = sorted((shared / "frameworks" / run / "run" / "checkpoint").iterdir())
    assert len(saves) == 4
    for save in saves:
        source = wreck(save, tmp_path / save.name)
        for sibling in saves:
            assert _rebuilt(source, sibling) == _described(save)


@pytest.mark.soak
def test_every_layout_of_every_release(shared: Path, tmp_path: Path) -> None:
    """Each by itself: order, forms and places of items, whatever wrote them."""
    done = 0
    for path in sorted(shared.glob("checkpoints/*/*/ckpt")):
        source = wreck(path, tmp_path / f"{path.parent.parent.name}-{path.parent.name}")
        if path.parent.name == "zstd":
            pytest.importorskip("zstandard")
        try:
            rebuilt = _rebuilt(source, path)
        except Refused as refused:
            assert "no checksums" in str(refused)
            assert path.parent.name.startswith(("hf_", "safetensors"))
            continue
        assert rebuilt == _described(path)
        done += 1
    assert done > 200


@pytest.mark.soak
def test_nothing_healthy_is_lost(shared: Path) -> None:
    for path in sorted(shared.glob("checkpoints/*/*/ckpt")):
        if path.parent.name.startswith(("hf_", "safetensors")):
            continue
        with ExitStack() as opened:
            mended = salvage(path, None, RepairOptions(), opened)
            assert not mended.remedies
            assert mended.survey.verified == mended.survey.items


def _rebuilt(source: Path, sibling: Path) -> dict[str, object]:
    with ExitStack() as opened:
        other = opened.enter_context(open_checkpoint(sibling))
        return meaning(repair(source, other, RepairOptions(), opened).survey.stored)


def _described(path: Path) -> dict[str, object]:
    with open_checkpoint(path) as checkpoint:
        return meaning(checkpoint.parts[0].stored)
