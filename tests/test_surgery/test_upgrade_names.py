"""Upgrade, steps wrappers and state-keys: what parameters are called, in all places at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import Refused
from dcpctl.model.draft import BytesDraft, Draft, TensorDraft
from dcpctl.model.fqn import wrappers_in
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.source import NewValue
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.upgrade.engine import StepReport, upgrade

Open = Callable[[Path], Draft]
Flat = dict[str, tuple[Any, ...]]


def report(steps: list[StepReport], name: str) -> StepReport:
    return next(step for step in steps if step.name == name)


def described(draft: Draft) -> Flat:
    """FQN -> what the entry holds: an object, or where its numbers come from."""
    return {
        fqn: ("tensor", entry.shape, entry.dtype, id(entry.source))
        if isinstance(entry, TensorDraft)
        else ("object", repr(entry.value))
        for fqn, entry in draft.entries.items()
    }


RELEASES = ("2.0.1", "2.2.2", "2.4.1", "2.6.0", "2.9.1", "2.13.0")


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("layout", ["ddp_w4", "wrapped_names_w4", "wrapped_names_single"])
def test_no_wrapper_name_is_left(shared: Path, opened: Open, release: str, layout: str) -> None:
    source = opened(shared / "checkpoints" / release / layout / "ckpt")
    asked = True if layout == "ddp_w4" else None
    draft, steps = upgrade(source, Upgrade("2.13", wrappers=asked))
    assert report(steps, "wrappers").changed > 0
    assert not [fqn for fqn in draft.entries if wrappers_in(fqn)]
    planner = draft.planner_data or {}
    assert set(planner) == set(draft.entries)
    assert not [key for path in planner.values() for key in path if "_orig_mod" in str(key)]
    view = OptimizerView(draft)
    assert view.not_in_model == ()
    assert view.verdict == "complete"


def test_a_prefix_of_all_names_is_stripped_only_where_that_is_asked_for(
    shared: Path, opened: Open
) -> None:
    """DDP leaves `module.` in all names alike, and so does a job that calls its model so."""
    source = opened(shared / "checkpoints/2.13.0/ddp_w4/ckpt")
    draft, steps = upgrade(source, Upgrade("2.13"))
    assert report(steps, "wrappers").changed == 0
    assert "--wrappers strips it" in report(steps, "wrappers").note
    assert draft.entries.keys() == source.entries.keys()
    _, steps = upgrade(source, Upgrade("2.13", wrappers=True))
    assert "'module.' taken out of" in report(steps, "wrappers").note


def test_wrappers_stay_where_that_is_asked_for(shared: Path, opened: Open) -> None:
    source = opened(shared / "checkpoints/2.13.0/wrapped_names_w4/ckpt")
    draft, steps = upgrade(source, Upgrade("2.13", wrappers=False))
    assert draft.entries.keys() == source.entries.keys()
    assert report(steps, "wrappers").changed == 0


def test_a_key_of_the_state_dict_is_no_wrapper(samples: Path, opened: Open) -> None:
    """`{"module": ...}` is what a job may call its model; `module.` inside a name is DDP's."""
    source = opened(samples / "model_only" / "step-8500")
    kept = {"module.w": ("module", "w"), "net.module.v": ("net", "module.v")}
    entries = [
        BytesDraft("module.w", NewValue(1)),
        BytesDraft("net.module.v", NewValue(1)),
        *source.entries.values(),
    ]
    source = source.with_entries(entries, {**kept, **(source.planner_data or {})})
    draft, _ = upgrade(source, Upgrade("2.13"))
    assert "module.w" in draft.entries


def test_names_that_would_meet_are_refused(shared: Path, opened: Open) -> None:
    source = opened(shared / "checkpoints/2.13.0/ddp_w4/ckpt")
    fqn = "model.norm.weight"
    twin = TensorDraft(fqn, (32,), "float32", source.entries["model.module.norm.weight"].source)  # type: ignore[arg-type]
    planner = {**(source.planner_data or {}), fqn: ("model", "norm.weight")}
    source = source.with_entries([*source.entries.values(), twin], planner)
    with pytest.raises(Refused, match="wrapper names cannot be stripped"):
        upgrade(source, Upgrade("2.13"))


#: (layout, how it names parameters), of the same model and optimizer.
SAME = {
    "index": "single_raw_osd_fp32",
    "fqn": "single_gsd_list",
    "flat": "single_gsd_flat",
}


@pytest.mark.parametrize("release", ["2.6.0", "2.13.0"])
@pytest.mark.parametrize("style", SAME)
@pytest.mark.parametrize("wanted", SAME)
def test_every_style_becomes_every_other(
    shared: Path, opened: Open, release: str, style: str, wanted: str
) -> None:
    where = shared / "checkpoints" / release
    source = opened(where / SAME[style] / "ckpt")
    draft, steps = upgrade(source, Upgrade(release[:-2], optimizer_keys=wanted))
    theirs = opened(where / SAME[wanted] / "ckpt")
    mine = [f for f in draft.entries if f.startswith("optimizer.")]
    real = [f for f in theirs.entries if f.startswith("optimizer.")]
    assert sorted(mine) == sorted(real)
    planner = draft.planner_data or {}
    assert {f: planner[f] for f in mine} == {f: (theirs.planner_data or {})[f] for f in real}
    for fqn in mine:
        ours, other = draft.entries[fqn], theirs.entries[fqn]
        if isinstance(ours, BytesDraft) and isinstance(other, BytesDraft):
            if fqn.endswith(".params") and wanted != "index":
                # get_state_dict has them in the model's order.
                assert sorted(ours.value) == sorted(other.value)
            else:
                assert repr(ours.value) == repr(other.value)
        else:
            assert ours.shape == other.shape  # type: ignore[union-attr]
    assert (report(steps, "state-keys").changed > 0) is (style != wanted)


@pytest.mark.parametrize("wanted", ["fqn", "flat"])
def test_there_and_back(shared: Path, opened: Open, wanted: str) -> None:
    source = opened(shared / "checkpoints/2.13.0/single_raw_osd_fp32/ckpt")
    there, _ = upgrade(source, Upgrade("2.13", optimizer_keys=wanted))
    back, _ = upgrade(there, Upgrade("2.13", optimizer_keys="index"))
    assert described(back) == described(source)
    assert back.planner_data == source.planner_data


def test_indices_without_a_model_are_refused(shared: Path, opened: Open) -> None:
    source = opened(shared / "checkpoints/2.13.0/single_raw_osd_fp32/ckpt")
    bare = [e for e in source.entries.values() if e.fqn.startswith("optimizer.")]
    draft = source.with_entries(bare, {e.fqn: (source.planner_data or {})[e.fqn] for e in bare})
    with pytest.raises(Refused, match="cannot be told"):
        upgrade(draft, Upgrade("2.13", optimizer_keys="fqn"))


def test_state_outside_the_groups_has_no_index(samples: Path, opened: Open) -> None:
    source = opened(samples / "healthy" / "step-8500")
    fqn = "optimizer.state.lost.weight.exp_avg"
    donor = source.entries["optimizer.state.norm.weight.exp_avg"]
    extra = TensorDraft(fqn, donor.shape, donor.dtype, donor.source)  # type: ignore[arg-type,union-attr]
    planner = {**(source.planner_data or {}), fqn: ("optimizer", "state", "lost.weight", "exp_avg")}
    draft = source.with_entries([*source.entries.values(), extra], planner)
    with pytest.raises(Refused, match="belongs to no param group"):
        upgrade(draft, Upgrade("2.13", optimizer_keys="index"))
