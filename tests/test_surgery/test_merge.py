from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import Refused
from dcpctl.model.draft import BytesDraft, Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.source import NewValue
from dcpctl.surgery.drop import Drop, drop
from dcpctl.surgery.edits import draft_of
from dcpctl.surgery.merge import Merge
from dcpctl.surgery.parts.joining import merge, parted
from dcpctl.surgery.select import Select, select
from dcpctl.surgery.set import Assignment
from dcpctl.surgery.settings.assign import assign
from tests.test_surgery import oracle

Open = Callable[[Path], Draft]


def value(draft: Draft, fqn: str) -> Any:
    entry: Any = draft.entries[fqn]
    return entry.value


def test_model_and_optimizer(healthy: Draft) -> None:
    model = select(healthy, section="model").draft
    rest = drop(healthy, section="model").draft
    outcome = merge([model, rest])
    assert sorted(outcome.draft.entries) == sorted(healthy.entries)
    assert dict(outcome.draft.planner_data or {}) == dict(healthy.planner_data or {})
    assert all(entry.untouched for entry in outcome.draft.entries.values())
    assert outcome.draft.sources == healthy.sources
    assert [change.to for change in outcome.changes] == ["22 keys", "99 keys"]


def test_what_all_have_alike_is_kept_once(healthy: Draft) -> None:
    outcome = merge([healthy, healthy])
    assert list(outcome.draft.entries) == list(healthy.entries)
    assert outcome.notes == ("121 keys are in several and the same in all of them",)


def test_stages_of_a_pipeline_share_param_groups(healthy: Draft) -> None:
    first = select(healthy, ["model.layers.0", "model.tok_embeddings"], with_state=True).draft
    second = select(
        healthy, ["model.layers.1", "model.norm", "model.output"], with_state=True
    ).draft
    made = merge([first, second]).draft
    names = value(made, "optimizer.param_groups.0.params")
    assert sorted(names) == sorted(value(healthy, "optimizer.param_groups.0.params"))
    view = OptimizerView(made)
    assert view.verdict == "complete" and len(view.parameters) == 21


def test_stages_with_pickled_param_groups(shared: Path, opened: Open) -> None:
    whole = opened(shared / "checkpoints" / "2.2.2" / "fsdp2_list_fp32" / "ckpt")
    parts = [select(whole, [f"model.layers.{layer}"], with_state=True).draft for layer in (0, 1)]
    made = merge(parts).draft
    names = [name for group in value(made, "optimizer.param_groups") for name in group["params"]]
    assert {name.split(".")[1] for name in names} == {"0", "1"}
    assert len(names) == len(set(names)) == 18


def test_conflicts(healthy: Draft, samples: Path, opened: Open) -> None:
    other = assign(healthy, [Assignment("optimizer.param_groups.0.lr", 0.5)]).draft
    with pytest.raises(Refused, match=r"'optimizer.param_groups.0.lr' is 0\.00029\S+ and 0\.5"):
        merge([healthy, other])
    later = opened(samples / "silent_reset" / "step-9500")
    with pytest.raises(Refused, match=r"float32\[96, 16\] in both, with other values.*more"):
        merge([healthy, later])
    entry = BytesDraft("model.norm.weight", NewValue(3))
    odd = healthy.with_entries([entry], {})
    with pytest.raises(Refused, match=r"is a tensor float32\[16\] and 3"):
        merge([healthy, odd])
    with pytest.raises(Refused, match="there is one checkpoint"):
        merge([healthy])


def test_positions_cannot_be_joined(samples: Path, opened: Open) -> None:
    draft = opened(samples / "releases" / "2.1.2-optim_AdamW")
    groups = value(draft, "optimizer.param_groups")
    other = BytesDraft("optimizer.param_groups", NewValue([{**groups[0], "params": [2, 3]}]))
    with pytest.raises(Refused, match="two keys would become one"):
        merge([draft, draft.with_entries([other], {})])


def test_planner_data_where_a_part_has_none(healthy: Draft) -> None:
    model = select(healthy, section="model").draft
    bare = dataclasses.replace(model, planner_data=None)
    made = merge([bare, drop(healthy, section="model").draft]).draft
    assert made.planner_data is not None
    assert made.planner_data["model.norm.weight"] == ("model.norm.weight",)
    assert made.planner_data["train_state.step"] == ("train_state", "step")


@pytest.fixture
def pipeline(samples: Path, tmp_path: Path) -> Path:
    """A directory of two stages, each a checkpoint with its own part of the model."""
    source = samples / "healthy" / "step-8500"
    root = tmp_path / "pipeline"
    for stage, globs in enumerate(
        [("model.layers.0", "model.tok_embeddings"), ("model.layers.1", "model.norm")]
    ):
        oracle.made(source, root / f"pp{stage}", Select(globs, with_state=True))
    return root


def test_parts_of_one_directory(pipeline: Path) -> None:
    with open_checkpoint(pipeline) as checkpoint:
        draft = Draft.of(checkpoint)
        assert any(fqn.startswith("pp1/") for fqn in draft.entries)
        assert [len(part.entries) for part in parted(draft)] == [66, 66]
        made = merge([draft]).draft
        assert not any("/" in fqn for fqn in made.entries)
        again, done = draft_of(checkpoint)
        assert list(again.entries) == list(made.entries)
        assert [applied.verb for applied in done] == ["merge"]


@pytest.mark.torch
def test_torch_loads_the_parts_as_one(samples: Path, tmp_path: Path, pipeline: Path) -> None:
    pytest.importorskip("torch")
    found = oracle.by_torch(oracle.made(pipeline, tmp_path / "made", Merge()))
    truth = oracle.truth(samples / "healthy" / "step-8500")
    lists = {fqn for fqn in found if fqn.endswith(".params")}
    assert len(found) == 106
    assert {fqn: found[fqn] for fqn in found.keys() - lists} == {
        fqn: truth[fqn] for fqn in found.keys() - lists
    }
    assert sum(len(found[fqn]) for fqn in lists) == 20


@pytest.mark.torch
def test_torch_loads_model_and_optimizer_as_one(samples: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    source = samples / "healthy" / "step-8500"
    a = oracle.made(source, tmp_path / "a", Select(section="model"))
    b = oracle.made(source, tmp_path / "b", Drop(section="model"))
    found = oracle.by_torch(oracle.made(a, tmp_path / "made", Merge((b,))))
    assert found == oracle.truth(source)
