"""`set --add`: param groups get a key that they lack, in every form, and stock torch loads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import NothingSelected, Refused
from dcpctl.model.draft import BytesDraft, Draft
from dcpctl.model.source import NewValue
from dcpctl.surgery.set import Set, assignment
from dcpctl.writing.plan import plan
from dcpctl.writing.write import write

Open = Callable[[Path], Draft]

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.distributed is (disabled|unavailable)")


def added(draft: Draft, *texts: str) -> Any:
    return Set(added=tuple(map(assignment, texts))).apply(draft, None)  # type: ignore[arg-type]


def groups_in(draft: Draft) -> list[Any]:
    """The param groups, from wherever they stand."""
    found: dict[str, dict[str, Any]] = {}
    for fqn, entry in draft.entries.items():
        if isinstance(entry, BytesDraft) and "param_groups" in fqn:
            value = entry.value
            if isinstance(value, list) and value and isinstance(value[0], dict):
                return value
            if isinstance(value, dict):
                found[fqn] = value
            else:
                place, _, key = fqn.rpartition(".")
                found.setdefault(place, {})[key] = value
        elif isinstance(entry, BytesDraft) and fqn == "optimizer" and isinstance(entry.value, dict):
            return list(entry.value["param_groups"])
    return list(found.values())


@pytest.mark.parametrize(
    "sample",
    [
        *("legacy", "releases/2.0.1-optim_AdamW", "releases/2.2.2-optim_AdamW"),
        *("releases/1.13.1-optim_AdamW", "releases/2.15.0-optim_AdamW"),
    ],
)
@pytest.mark.parametrize("target", ["initial_lr", "optimizer.param_groups.*.initial_lr"])
def test_every_form_of_the_committed_samples(samples, opened, sample, target):
    draft = opened(samples / sample)
    before = groups_in(draft)
    outcome = added(draft, f"{target}=@lr")
    after = groups_in(outcome.draft)
    assert len(before) == len(after) == len(outcome.changes) > 0
    for old, new in zip(before, after, strict=True):
        assert "initial_lr" not in old
        assert new == {**old, "initial_lr": old["lr"]}
    again = added(outcome.draft, f"{target}=7.0")
    assert groups_in(again.draft) == after and not again.changes
    assert "already" in again.notes[0]


def test_one_group_and_several_keys(samples, opened):
    draft = opened(samples / "legacy")
    made = added(draft, "optimizer.param_groups.1.initial_lr=1", "tag='x'", "flag=true").draft
    first, second = groups_in(made)
    assert "initial_lr" not in first and second["initial_lr"] == 1
    assert first["tag"] == second["tag"] == "x" and first["flag"] is True
    assert made.planner_data["optimizer.param_groups.1.initial_lr"] == (
        *("optimizer", "param_groups", 1, "initial_lr"),
    )


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("elsewhere.param_groups.0.initial_lr=1", NothingSelected, "no param group"),
        ("initial_lr=@base", Refused, "has no 'base'"),
        ("initial_lr=-1", Refused, "at least 0"),
        ("params=1", Refused, "no hyperparameter"),
        ("param_names=1", Refused, "no hyperparameter"),
    ],
)
def test_what_is_refused(samples, opened, text, error, words):
    with pytest.raises(error, match=words):
        added(opened(samples / "legacy"), text)


def test_no_groups_at_all(samples, opened):
    with pytest.raises(NothingSelected) as raised:
        added(opened(samples / "releases/1.13.1-model_only_flat"), "initial_lr=1")
    assert raised.value.hint == "the checkpoint has no param groups"


def test_groups_that_lie_beside_the_shards(shared, opened):
    draft = opened(shared / "frameworks/megatron_core/gpt_tp2_w2/iter_0000003")
    for edit in (Set(added=(assignment("initial_lr=1"),)), Set((assignment("lr=1"),))):
        with pytest.raises(NothingSelected) as raised:
            edit.apply(draft, None)  # type: ignore[arg-type]
        assert "'common.pt' beside the shards holds param groups" in (raised.value.hint or "")


def test_a_whole_optimizer_in_one_value(samples, opened):
    state = {"state": {}, "param_groups": [{"lr": 0.1, "params": [0]}, {"lr": 0.2, "params": [1]}]}
    draft = opened(samples / "legacy")
    entries = [e for f, e in draft.entries.items() if not f.startswith("optimizer.")]
    whole = draft.with_entries([*entries, BytesDraft("optimizer", NewValue(state))], None)
    assert [g["initial_lr"] for g in groups_in(added(whole, "initial_lr=@lr").draft)] == [0.1, 0.2]
    where = "optimizer.param_groups.0.initial_lr=3"
    assert [g.get("initial_lr") for g in groups_in(added(whole, where).draft)] == [3, None]


def _model(torch: Any) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


def _optimizer(torch: Any, model: Any) -> Any:
    return torch.optim.AdamW(
        [{"params": model[0].parameters(), "lr": 0.25}, {"params": model[1].parameters()}], lr=0.5
    )


def _state(torch: Any, model: Any, optimizer: Any, style: str) -> dict[str, Any]:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    if style == "index":
        return optimizer.state_dict()
    options = StateDictOptions(flatten_optimizer_state_dict=style == "flat")
    return get_optimizer_state_dict(model, optimizer, options=options)


@pytest.mark.parametrize("style", ["fqn", "flat", "index"])
@pytest.mark.parametrize("in_place", [False, True])
def test_stock_torch_resumes_from_the_result(torch, tmp_path, opened, style, in_place):
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    model = _model(torch)
    optimizer = _optimizer(torch, model)
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    dcp.save(
        {"optimizer": _state(torch, model, optimizer, style)},
        no_dist=True,
        checkpoint_id=tmp_path / "ck",
    )

    def resume(path: Path) -> Any:
        fresh = _optimizer(torch, model)
        schedule = torch.optim.lr_scheduler.LambdaLR(fresh, lambda step: 1.0)  # adds initial_lr
        loaded = {"optimizer": _state(torch, model, fresh, style)}
        dcp.load(loaded, no_dist=True, checkpoint_id=path)
        if style == "index":
            fresh.load_state_dict(loaded["optimizer"])
        else:
            options = StateDictOptions(flatten_optimizer_state_dict=style == "flat")
            set_optimizer_state_dict(model, fresh, loaded["optimizer"], options=options)
        del schedule
        return torch.optim.lr_scheduler.LambdaLR(fresh, lambda step: 1.0, last_epoch=5)

    with pytest.raises(dcp.api.CheckpointException, match="initial_lr"):
        resume(tmp_path / "ck")
    target = tmp_path / ("ck" if in_place else "out")
    outcome = added(opened(tmp_path / "ck"), "optimizer.param_groups.*.initial_lr=@lr")
    from dcpctl.writing.options import WriteOptions

    options = WriteOptions(in_place=in_place)
    write(plan(outcome.draft, target, options), options)
    assert resume(target).base_lrs == [0.25, 0.5]


def test_one_optimizer_per_parameter(torch, tmp_path, opened):
    import torch.distributed.checkpoint as dcp

    model = _model(torch)
    state = {}
    for name, parameter in model.named_parameters():
        optimizer = torch.optim.AdamW([parameter], lr=0.5)
        model(torch.ones(3)).sum().backward()
        optimizer.step()
        state[name] = optimizer.state_dict()
    dcp.save({"optimizer": state}, no_dist=True, checkpoint_id=tmp_path / "ck")
    outcome = added(opened(tmp_path / "ck"), "initial_lr=@lr")
    assert len(outcome.changes) == len(state) == 4
    write(plan(outcome.draft, tmp_path / "out"))
    for member in state.values():
        member["param_groups"][0]["initial_lr"] = 9.0
    dcp.load({"optimizer": state}, no_dist=True, checkpoint_id=tmp_path / "out")
    assert {member["param_groups"][0]["initial_lr"] for member in state.values()} == {0.5}


def test_in_an_edits_file(samples, opened, tmp_path):
    from dcpctl.surgery.edits.file import read_edits

    (tmp_path / "e.toml").write_text('[[edits]]\nverb = "set"\nadd = { initial_lr = "@lr" }\n')
    (edit,) = read_edits(tmp_path / "e.toml")
    made = edit.apply(opened(samples / "legacy"), None).draft  # type: ignore[arg-type]
    assert all("initial_lr" in group for group in groups_in(made))
    assert dataclasses.asdict(edit)["assignments"] == ()
