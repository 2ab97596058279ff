"""Parts with equal keys (actor and critic, pipeline stages) are edited each and stay parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcpctl import open_checkpoint
from dcpctl.errors import NothingSelected
from dcpctl.model.rename_rules import literal
from dcpctl.surgery.drop import Drop
from dcpctl.surgery.edits import apply_edits
from dcpctl.surgery.rename import Rename
from dcpctl.surgery.reshard import Reshard
from dcpctl.surgery.set import Set, assignment
from dcpctl.surgery.verbs import Verb
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.undo import undo
from dcpctl.writing.write import write
from tests.test_writing.building import assert_same, hashes, make, numbers


@pytest.fixture
def save(tmp_path: Path) -> Path:
    """Two models with the same names, and optimizers in parts of their own."""
    for seed, who in enumerate(("actor", "critic")):
        w = numbers(8, 2, seed=seed)
        more = {"model.head": (numbers(3), "float32", (1,))} if who == "critic" else {}
        place = tmp_path / "step-7" / who
        make(place / "model", {"model.w": (w, "float32", (2, 1)), **more}, {"step": 7}, ranks=2)
        state = {"optimizer.state.w.exp_avg": (w, "float32", (2, 1))}
        groups = {"optimizer.param_groups.0.lr": 0.1, "optimizer.param_groups.0.params": ["w"]}
        make(place / "optim", state, groups, ranks=2)
    return tmp_path / "step-7"


def made(source: Path, target: Path | None, *wanted: Verb) -> list[Any]:
    options = WriteOptions(in_place=target is None)
    with open_checkpoint(source) as checkpoint:
        draft, done = apply_edits(checkpoint, wanted, lambda path: checkpoint)
        write(plan(draft, target or source, options), options)
    return done


def keys(path: Path) -> dict[str, set[str]]:
    found = {}
    for metadata in sorted(path.rglob(".metadata")):
        with open_checkpoint(metadata.parent) as checkpoint:
            found[metadata.parent.relative_to(path).as_posix()] = set(checkpoint)
    return found


def test_a_rename_goes_through_all_and_each_keeps_its_numbers(save: Path, tmp_path: Path) -> None:
    (done,) = made(save, tmp_path / "out", Rename((literal("w=v"),)))
    found = keys(tmp_path / "out")
    assert set(found) == {"actor/model", "actor/optim", "critic/model", "critic/optim"}
    assert found["critic/model"] == {"model.v", "model.head", "step"}
    assert found["actor/optim"] == {
        *("optimizer.state.v.exp_avg", "optimizer.param_groups.0.lr"),
        "optimizer.param_groups.0.params",
    }
    assert {"actor/model.w", "critic/model.w"} <= {change.fqn for change in done.outcome.changes}
    for who in ("actor", "critic"):
        with open_checkpoint(save / who) as old, open_checkpoint(tmp_path / "out" / who) as new:
            assert new["model.v"].numpy().tobytes() == old["model.w"].numpy().tobytes()
            assert new["optimizer.param_groups.0.params"].value == ["v"]


def test_what_only_one_has(save: Path, tmp_path: Path) -> None:
    (done,) = made(save, tmp_path / "out", Drop(("model.head",)))
    assert "model.head" not in keys(tmp_path / "out")["critic/model"]
    assert_same(save / "actor", tmp_path / "out/actor")
    assert done.outcome.notes == ("actor has nothing of that name and stays as it is",)
    with pytest.raises(NothingSelected):
        made(save, tmp_path / "no", Drop(("nowhere",)))


def test_several_edits_and_new_keys(save: Path, tmp_path: Path) -> None:
    lr = Set((assignment("lr=0.5"),), added=(assignment("initial_lr=0.5"),))
    made(save, tmp_path / "out", lr, Reshard(3), Set((assignment("step=9"),)))
    for who in ("actor", "critic"):
        with open_checkpoint(tmp_path / "out" / who / "optim") as part:
            assert part["optimizer.param_groups.0.lr"].value == 0.5
            assert part["optimizer.param_groups.0.initial_lr"].value == 0.5
            assert len(part.files) == 3
        with open_checkpoint(tmp_path / "out" / who / "model") as part:
            assert part["step"].value == 9


def test_in_place(save: Path) -> None:
    before = hashes(save)
    made(save, None, Set((assignment("lr=0.5"),)))
    changed = {n.rpartition("/")[0] for n, h in hashes(save).items() if before.get(n) != h}
    assert changed == {"actor/optim", "critic/optim"}
    undo(save)
    assert hashes(save) == before


def test_one_of_them_by_its_own_path(save: Path) -> None:
    before = hashes(save)
    made(save / "critic", None, Set((assignment("lr=0.5"),)))
    changed = {n.rpartition("/")[0] for n, h in hashes(save).items() if before.get(n) != h}
    assert changed == {"critic/optim"}
