"""A save in parts stays in parts: written anew, edited in place, undone, killed in between."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dcpctl import open_checkpoint
from dcpctl.errors import Refused
from dcpctl.model.draft import Draft
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.publish import DestinationExists
from dcpctl.writing.sources import SourceChanged
from dcpctl.writing.steps import observed
from dcpctl.writing.undo import undo
from dcpctl.writing.unfinished import Change, backup_name, begin_change, make_ready, recover
from tests.test_writing.building import assert_same, edited, hashes, make, numbers, resharded, run

PLACE = WriteOptions(in_place=True)


@pytest.fixture
def save(tmp_path: Path) -> Path:
    path = tmp_path / "save"
    make(path / "model", {"model.w": (numbers(40, 6), "float32", (2, 1))}, {"model.x": 1}, ranks=2)
    slots = {"optimizer.state.w.m": (numbers(40, 6, seed=1), "float32", (2, 1))}
    make(path / "optimizer", slots, {"optimizer.param_groups.0.lr": 0.5}, ranks=2)
    (path / "scheduler.bin").write_bytes(b"s")
    (path / "model/config.json").write_bytes(b"{}")
    return path


def test_it_stays_in_parts(save, tmp_path):
    with open_checkpoint(save) as checkpoint:
        run(Draft.of(checkpoint), tmp_path / "same")
        made = run(resharded(Draft.of(checkpoint), 3), tmp_path / "three")
    assert_same(save, tmp_path / "same")
    assert_same(save, tmp_path / "three")
    assert set(hashes(tmp_path / "same")) == set(hashes(save))
    assert set(hashes(tmp_path / "three")) == {
        *("scheduler.bin", "model/config.json", "model/.metadata", "optimizer/.metadata"),
        *(f"{part}/__{rank}_0.distcp" for part in ("model", "optimizer") for rank in range(3)),
    }
    assert made.counts.files == 6
    for part in ("model", "optimizer"):
        assert_same(save / part, tmp_path / "three" / part)


def test_parts_with_the_same_keys_keep_their_own_names(tmp_path):
    """Actor and critic: what tells their keys apart is neither a key nor a path of either."""
    save = tmp_path / "step-4"
    for seed, who in enumerate(("actor", "critic")):
        tensors = {
            "model.w": (numbers(8, 6, seed=seed), "float32", (2, 1)),
            "optimizer.state.w.m": (numbers(8, 6, seed=seed + 2), "float32", (2, 1)),
        }
        make(save / who, tensors, {"optimizer.param_groups.0.lr": seed}, ranks=2)
    with open_checkpoint(save) as checkpoint:
        assert {fqn for fqn in checkpoint if "/" in fqn} == {
            "critic/model.w",
            "critic/optimizer.state.w.m",
            "critic/optimizer.param_groups.0.lr",
        }
        paths = checkpoint.planner_data or {}
        run(edited(Draft.of(checkpoint), **{"model.new": 2}), tmp_path / "step-5")
    assert paths["critic/model.w"][0].startswith("critic/")
    assert_same(save / "critic", tmp_path / "step-5" / "critic")
    with (
        open_checkpoint(save / "critic") as old,
        open_checkpoint(tmp_path / "step-5" / "critic") as new,
    ):
        assert new.planner_data == old.planner_data


def test_one_part_alone_is_one_too(save, tmp_path):
    only = tmp_path / "step3"
    shutil.copytree(save / "model", only / "model_and_optim")
    (only / "train").mkdir()
    (only / "train/rank0.pt").write_bytes(b"0")
    with open_checkpoint(only) as checkpoint:
        run(edited(Draft.of(checkpoint), **{"model.new": 2}), tmp_path / "out")
    assert set(hashes(tmp_path / "out")) == {
        "train/rank0.pt",
        *(f"model_and_optim/{p.name}" for p in (save / "model").iterdir()),
        "model_and_optim/__0_1.distcp",
    }
    with open_checkpoint(tmp_path / "out") as checkpoint:
        assert checkpoint["model.new"].value == 2


def test_a_new_key_goes_where_its_like_are(save, tmp_path):
    with open_checkpoint(save) as checkpoint:
        draft = edited(Draft.of(checkpoint), **{"optimizer.param_groups.0.eps": 1e-8, "step": 3})
        run(draft, tmp_path / "out")
    with open_checkpoint(tmp_path / "out/optimizer") as part:
        assert set(part) == {
            *("optimizer.state.w.m", "optimizer.param_groups.0.lr"),
            "optimizer.param_groups.0.eps",
        }
    with open_checkpoint(tmp_path / "out/model") as part:
        assert set(part) == {"model.w", "model.x", "step"}


def test_a_part_without_keys_is_none(save, tmp_path):
    gone = ["optimizer.state.w.m", "optimizer.param_groups.0.lr"]
    with open_checkpoint(save) as checkpoint:
        run(edited(Draft.of(checkpoint), drop=gone), tmp_path / "out")
    assert not (tmp_path / "out/optimizer/.metadata").exists()


def test_equal_keys_of_two_parts_stay_apart(tmp_path):
    save = tmp_path / "step-7"
    for seed, part in enumerate(("actor", "critic")):
        make(save / part, {"w": (numbers(4, seed=seed), "float32", (1,))}, {"step": 7}, ranks=1)
    with open_checkpoint(save) as checkpoint:
        assert set(checkpoint) == {"w", "step", "critic/w", "critic/step"}
        run(Draft.of(checkpoint), tmp_path / "out")
    for part in ("actor", "critic"):
        assert_same(save / part, tmp_path / "out" / part)


def test_it_replaces_a_save_in_the_same_parts_only(save, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(save, out)
    (tmp_path / "run/step-1").mkdir(parents=True)
    with open_checkpoint(save) as checkpoint:
        draft = edited(Draft.of(checkpoint), **{"model.x": 7})
        with pytest.raises(DestinationExists):
            run(draft, out)
        run(draft, out, overwrite=True)
        with pytest.raises(Exception, match="no checkpoint; it is not overwritten"):
            run(draft, tmp_path / "run", overwrite=True)
    with open_checkpoint(out) as checkpoint:
        assert checkpoint["model.x"].value == 7


def test_an_edit_in_place_touches_the_parts_that_it_is_about(save, tmp_path):
    before = hashes(save)
    with open_checkpoint(save) as checkpoint:
        made = plan(
            edited(Draft.of(checkpoint), **{"optimizer.param_groups.0.lr": 2.0}), save, PLACE
        )
        assert [part.stays for part in made.parts] == [True, False]
        run(
            edited(Draft.of(checkpoint), **{"optimizer.param_groups.0.lr": 2.0}),
            save,
            in_place=True,
        )
    after = hashes(save)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {
        *("optimizer/.metadata", "optimizer/__0_1.distcp"),
        "optimizer/.metadata.dcpctl-1.bak",
    }
    with open_checkpoint(save) as checkpoint:
        assert checkpoint["optimizer.param_groups.0.lr"].value == 2.0
        run(edited(Draft.of(checkpoint), **{"model.x": 9, "optimizer.a": 1}), save, in_place=True)
    assert {"model/.metadata.dcpctl-2.bak", "optimizer/.metadata.dcpctl-2.bak"} <= set(hashes(save))
    report = undo(save)
    assert (report.number, report.left) == (2, 1)
    assert set(report.removed) == {"model/__0_1.distcp", "optimizer/__0_2.distcp"}
    assert hashes(save) == after
    assert undo(save, dry_run=True).number == 1
    assert undo(save).left == 0
    assert hashes(save) == before


class Killed(BaseException):
    """As a kill: nothing is cleaned up behind it."""


def killed_at(save: Path, number: int, act) -> str | None:
    """Run something and end it at the numbered step, as a kill would; None where it was through."""
    seen: list[str] = []

    def observer(name: str) -> None:
        seen.append(name)
        if len(seen) > number:
            raise Killed

    try:
        with observed(observer):
            act(save)
    except Killed:
        return seen[number]
    return None


def edit(save: Path) -> None:
    with open_checkpoint(save) as checkpoint:
        draft = edited(Draft.of(checkpoint), **{"model.x": 9, "optimizer.param_groups.0.lr": 2.0})
        run(draft, save, in_place=True, jobs=1)


def metadata(save: Path) -> dict[str, str]:
    return {n: h for n, h in hashes(save).items() if n.endswith("/.metadata") or ".distcp" in n}


@pytest.mark.parametrize("act", [edit, undo])
def test_a_change_that_is_killed_is_done_or_not(save, tmp_path, monkeypatch, act):
    # Where a run dies of an exception it clears up itself; a kill leaves that to the next.
    monkeypatch.setattr("dcpctl.writing.in_place.recover", lambda directory: _none(directory))
    old = metadata(save)
    edit(save)
    new = metadata(save)
    if act is undo:
        old, new = new, old
    else:
        undo(save)
    seen = []
    for number in range(100):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(save, copy)
        name = killed_at(copy, number, act)
        if name is None:
            break
        seen.append(name)
        recover(copy)
        assert metadata(copy) in (old, new), name
        assert not list(copy.rglob(".dcpctl-*.tmp")), name
    assert {"publish", "published"} <= set(seen) or {"restore", "restored"} <= set(seen)


def _none(directory: Path):
    from dcpctl.writing.unfinished import Recovered

    return Recovered()


def half_done(save: Path) -> None:
    """Leave an edit of both parts after the first rename."""
    count = iter(range(9))

    def observer(name: str) -> None:
        if name == "publish" and next(count) == 1:
            raise Killed

    with observed(observer), pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcpctl.writing.in_place.recover", _none)
        with pytest.raises(Killed):
            edit(save)


def test_a_change_that_is_half_done_is_finished_first(save):
    half_done(save)
    with pytest.raises(SourceChanged, match="finished an interrupted edit"):
        edit(save)
    with open_checkpoint(save) as checkpoint:
        assert checkpoint["model.x"].value == 9
        assert checkpoint["optimizer.param_groups.0.lr"].value == 2.0


def test_a_part_alone_finishes_what_the_save_has_begun(save):
    half_done(save)
    with open_checkpoint(save / "optimizer") as checkpoint, pytest.raises(SourceChanged):
        run(
            edited(Draft.of(checkpoint), **{"optimizer.b": 1}),
            save / "optimizer",
            in_place=True,
        )
    with open_checkpoint(save) as checkpoint:
        assert checkpoint["optimizer.param_groups.0.lr"].value == 2.0


def test_what_an_unfinished_change_says_is_not_trusted(save, tmp_path):
    (tmp_path / "precious/.metadata").parent.mkdir()
    (tmp_path / "precious/.metadata").write_bytes(b"p")
    (tmp_path / "precious/__0_0.distcp").write_bytes(b"p")
    before = hashes(tmp_path / "precious")
    change = Change(1, (), ("model/.metadata", "optimizer/.metadata"), undo=True)
    staged = begin_change(save, change)
    make_ready(staged, change)
    names = ["../precious/.metadata", "/etc/passwd", "model/__9_0.distcp"]
    said = {"files": ["../precious/__0_0.distcp", "model/../x"], "metadata": names, "undo": True}
    (staged / "added.json").write_text(json.dumps(said))
    (tmp_path / backup_name("precious/.metadata", 1)).write_bytes(b"evil")
    state = {n: h for n, h in hashes(save).items() if "dcpctl" not in n}
    recover(save)
    assert hashes(save) == state
    assert (tmp_path / "precious/.metadata").read_bytes() == b"p"
    assert before.items() <= hashes(tmp_path / "precious").items()


def test_parts_side_by_side(save, tmp_path):
    """Composer's and others' way: no directory of a save's own."""
    run_ = tmp_path / "run"
    for step in ("0001", "0002"):
        shutil.copytree(save / "model", run_ / f"{step}.net_model")
        shutil.copytree(save / "optimizer", run_ / f"{step}.net_optim")
        (run_ / f"{step}.json").write_bytes(b"{}")
    before = hashes(run_)
    with open_checkpoint(run_ / "0002") as checkpoint:
        assert [part.name for part in checkpoint.parts] == ["0002.net_model", "0002.net_optim"]
        run(Draft.of(checkpoint), tmp_path / "out")
        with pytest.raises(Refused, match="is inside the source"):
            run(Draft.of(checkpoint), run_ / "0002.net_model/x")
        run(edited(Draft.of(checkpoint), **{"model.x": 9}), run_ / "0002", in_place=True)
    here = {name: sum_ for name, sum_ in before.items() if name.startswith("0002")}
    assert set(hashes(tmp_path / "out")) == set(here)
    changed = {name for name, sum_ in hashes(run_).items() if before.get(name) != sum_}
    assert {name.partition("/")[0] for name in changed} == {"0002.net_model"}
    with open_checkpoint(run_ / "0002") as checkpoint:
        assert checkpoint["model.x"].value == 9
    assert undo(run_ / "0002").removed == ("0002.net_model/__0_1.distcp",)
    assert hashes(run_) == before
