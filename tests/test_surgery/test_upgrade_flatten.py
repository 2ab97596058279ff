"""Upgrade, step flatten: pickled dicts opened as 2.4 does, and put together as 2.3 does."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpctl.errors import Refused
from dcpctl.formats.pickles.standins import Opaque
from dcpctl.formats.tensor_values import TensorValue
from dcpctl.model.draft import BytesDraft, Draft, TensorDraft
from dcpctl.model.entry import TensorEntry
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.source import NewValue
from dcpctl.model.tree import closed, grow, is_opened, leaves, value_of
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.upgrade.engine import StepReport, upgrade
from dcpctl.writing.plan import plan
from dcpctl.writing.write import write
from tests.test_surgery.oracle import by_torch, tensor_truth, truth

Open = Callable[[Path], Draft]


def report(steps: list[StepReport]) -> StepReport:
    return next(step for step in steps if step.name == "flatten")


def objects(draft: Draft) -> dict[str, Any]:
    return {f: e.value for f, e in draft.entries.items() if isinstance(e, BytesDraft)}


plain = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
keys = st.text("abc", min_size=1, max_size=2)
nested = st.recursive(
    plain | st.tuples(plain, plain),
    lambda inner: st.dictionaries(keys, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(keys, nested, min_size=1, max_size=3))
def test_leaves_are_torchs(torch: Any, state: dict[str, Any]) -> None:
    from torch.distributed.checkpoint._traverse import traverse_state_dict

    theirs: list[tuple[Any, Any]] = []
    traverse_state_dict(state, lambda path, value: theirs.append((path, value)))
    ours = [item for key, value in state.items() for item in leaves(value, (key,))]
    assert ours == theirs


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(keys, nested, min_size=1, max_size=3))
def test_what_is_closed_is_what_2_3_keeps_whole(torch: Any, state: dict[str, Any]) -> None:
    """Opened by 2.4's rules and closed again: the entries of 2.3, but for what vanished."""
    from torch.distributed.checkpoint._traverse import traverse_state_dict_v_2_3

    pairs = [item for key, value in state.items() for item in leaves(value, (key,))]
    paths = {".".join(map(str, path)): path for path, _ in pairs}
    if len(paths) < len(pairs) or len({path for path, _ in pairs}) < len(pairs):
        return
    values = {".".join(map(str, path)): value for path, value in pairs}
    root = grow(paths)
    assert root is not None
    theirs: dict[Any, Any] = {}
    traverse_state_dict_v_2_3(state, lambda path, value: theirs.setdefault(path, value))
    for node in closed(root, frozenset()):
        made = value_of(node, values, of_optimizer=False)
        if "{}" not in repr(state):
            assert theirs[node.path] == made


@pytest.mark.parametrize(
    ("value", "opened"),
    [
        ({}, True),
        ({"a": 1}, True),
        ([1, 2], False),
        ([[1], [2, [3]]], False),
        ([1, {"a": 2}], True),
        ([[{"a": 2}]], True),
        ((1, {"a": 2}), False),
        ([TensorValue("float32", (), np.zeros(()))], True),
        (3, False),
    ],
)
def test_what_2_4_opens(value: Any, opened: bool) -> None:
    assert is_opened(value) is opened


@pytest.mark.parametrize("release", ["2.0.1", "2.2.2"])
@pytest.mark.parametrize("layout", ["fsdp2_list_fp32", "extras_w4", "optim_SGD", "single_gsd_list"])
def test_an_old_checkpoint_has_the_keys_of_a_new_one(
    shared: Path, opened: Open, release: str, layout: str
) -> None:
    """The same job saved by 2.4.1 (which the newest FSDP2 of the catalogue agrees with)."""
    old = shared / "checkpoints" / release / layout / "ckpt"
    new = shared / "checkpoints" / "2.4.1" / layout / "ckpt"
    if not old.is_dir():
        pytest.skip("this release did not write this layout")
    draft, steps = upgrade(opened(old), Upgrade("2.4"))
    assert report(steps).changed > 0
    theirs = opened(new)
    # 2.0 to 2.3 keep `momentum_buffer: None`, which 2.4 does not make.
    ours = [fqn for fqn in draft.entries if not fqn.endswith("momentum_buffer")]
    assert sorted(ours) == sorted(theirs.entries)
    planner, other = draft.planner_data or {}, theirs.planner_data or {}
    assert {f: planner[f] for f in ours} == {f: tuple(other[f]) for f in ours}
    assert list(planner) == [f for f in planner if f in draft.entries]


def test_order_follows_the_dict_that_was_opened(shared: Path, opened: Open) -> None:
    draft, _ = upgrade(opened(shared / "checkpoints/2.2.2/single_gsd_list/ckpt"), Upgrade("2.6"))
    keys = [f.rpartition(".")[2] for f in draft.entries if f.startswith("optimizer.param_groups.0")]
    assert keys[:3] == ["weight_decay", "lr", "betas"]
    assert keys[-1] == "params"


def test_dicts_of_a_new_checkpoint_are_let_alone(samples: Path, opened: Open) -> None:
    source = opened(samples / "healthy" / "step-8500")
    draft, steps = upgrade(source, Upgrade("2.13"))
    assert draft is source
    assert [step.changed for step in steps] == [0] * len(steps)
    assert {step.name for step in steps} == {
        "flatten",
        "wrappers",
        "param-group-keys",
        "state-keys",
        "step-tensor",
        "missing-state",
        "metadata",
    }


def test_nothing_is_opened_where_something_cannot_be(samples: Path, opened: Open) -> None:
    source = opened(samples / "releases" / "2.2.2-optim_AdamW")
    odd = BytesDraft("scheduler", NewValue({"last_epoch": 3, "fn": Opaque("my.lambda")}))
    source = source.with_entries(
        [*source.entries.values(), odd],
        {**(source.planner_data or {}), "scheduler": ("scheduler",)},
    )
    draft, steps = upgrade(source, Upgrade("2.13"))
    assert "my.lambda" in report(steps).note
    assert report(steps).changed == 0
    groups = draft.entries["optimizer.param_groups"]
    assert isinstance(groups, BytesDraft)
    assert groups.value[0]["decoupled_weight_decay"] is True


def test_a_collision_is_refused(samples: Path, opened: Open) -> None:
    source = opened(samples / "releases" / "2.2.2-optim_AdamW")
    twin = BytesDraft("optimizer.param_groups.0.lr", NewValue(0.5))
    source = source.with_entries([*source.entries.values(), twin], source.planner_data)
    with pytest.raises(Refused, match="there already"):
        upgrade(source, Upgrade("2.13"))


@pytest.mark.parametrize(
    "layout", ["fsdp2_list_fp32", "optim_AdamW", "optim_SGD", "single_gsd_list"]
)
def test_back_to_the_form_of_2_3(shared: Path, opened: Open, layout: str) -> None:
    new = opened(shared / "checkpoints/2.4.1" / layout / "ckpt")
    draft, _ = upgrade(new, Upgrade("2.2"))
    assert draft.form == "2.2"
    old = opened(shared / "checkpoints/2.2.2" / layout / "ckpt")
    assert set(draft.entries) == set(old.entries)
    assert draft.planner_data == old.planner_data
    for fqn, value in objects(old).items():
        ours = objects(draft)[fqn]
        if layout == "optim_SGD":
            ours = {**ours, "state": value["state"]}
            # 2.4 added `fused`.
            value["param_groups"][0]["fused"] = None
        assert ours == value
        if isinstance(value, list):
            assert [list(g) for g in ours] == [list(g) for g in value]


def test_there_and_back_gives_the_same_objects(shared: Path, opened: Open) -> None:
    source = opened(shared / "checkpoints/2.2.2/extras_w4/ckpt")
    new, _ = upgrade(source, Upgrade("2.6"))
    back, _ = upgrade(new, Upgrade("2.2"))
    before, after = objects(source), objects(back)
    assert before.pop("empty_dict") == {}
    assert after.keys() == before.keys()
    for fqn, value in before.items():
        if fqn not in ("tuple_of_tensors", "int_keys"):
            assert after[fqn] == value, fqn


def old_checkpoint(path: Path, value: dict[str, Any]) -> Path:
    """A checkpoint as 1.13 makes it of a nested dict: a bytes entry with the tensors inside."""
    entries = [BytesDraft(key, NewValue(item)) for key, item in value.items()]
    draft = Draft((), {}, None, form="1.13").with_entries(entries, None)
    write(plan(draft, path))
    return path


def tensor(*shape: int, dtype: str = "float32") -> TensorValue:
    kind = np.dtype(dtype)
    return TensorValue(dtype, shape, np.arange(np.prod(shape), dtype=kind).reshape(shape))


def test_tensors_inside_dicts_of_1_13(torch: Any, tmp_path: Path, opened: Open) -> None:
    weight, moment, step = tensor(6, 4), tensor(6, 4), tensor()
    source = old_checkpoint(
        tmp_path / "old",
        {
            "model": OrderedDict(w=weight, count=tensor(2, dtype="int64")),
            "optimizer": {
                "state": {0: {"step": step, "exp_avg": moment}},
                "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": [0]}],
            },
            "epoch": 3,
        },
    )
    draft, steps = upgrade(opened(source), Upgrade("2.13"))
    assert report(steps).changed == 2
    entry = draft.entries["model.w"]
    assert isinstance(entry, TensorDraft)
    assert isinstance(entry.source, TensorEntry)
    assert entry.source.numpy().tolist() == weight.array.tolist()
    assert (draft.planner_data or {})["optimizer.state.0.step"] == (
        "optimizer",
        "state",
        "0",
        "step",
    )
    write(plan(draft, tmp_path / "new"))
    found = by_torch(tmp_path / "new")
    assert found["model.w"] == tensor_truth("float32", (6, 4), weight.array.tobytes())
    assert found["model.count"] == tensor_truth("int64", (2,), np.arange(2).tobytes())
    assert found["optimizer.state.0.step"] == tensor_truth("float32", (), bytes(4))
    assert found["optimizer.param_groups.0.betas"] == (0.9, 0.99)
    assert found["optimizer.param_groups.0.params"] == [0]
    assert found["epoch"] == 3


def test_a_large_tensor_inside_a_dict(torch: Any, tmp_path: Path, opened: Open) -> None:
    big = tensor(300, 100)
    source = old_checkpoint(tmp_path / "old", {"model": {"w": big, "pair": (1, 2)}})
    draft, _ = upgrade(opened(source), Upgrade("2.13"))
    write(plan(draft, tmp_path / "new"))
    assert by_torch(tmp_path / "new")["model.w"] == tensor_truth(
        "float32", (300, 100), big.array.tobytes()
    )


def test_a_large_tensor_inside_a_tuple_keeps_all_as_it_is(tmp_path: Path, opened: Open) -> None:
    source = old_checkpoint(tmp_path / "old", {"model": {"w": (tensor(300, 100),)}, "epoch": 3})
    draft, steps = upgrade(opened(source), Upgrade("2.13"))
    assert "torch.Tensor" in report(steps).note
    assert set(draft.entries) == {"model", "epoch"}


@pytest.mark.parametrize("layout", ["1.13.1-optim_AdamW", "1.13.1-model_only_flat"])
def test_a_flat_checkpoint_of_1_13_loads(
    torch: Any, samples: Path, tmp_path: Path, layout: str
) -> None:
    source = samples / "releases" / layout
    with open_checkpoint(source) as checkpoint:
        draft, _ = upgrade(Draft.of(checkpoint), Upgrade("2.13"))
        write(plan(draft, tmp_path / "new"))
    found = by_torch(tmp_path / "new")
    for fqn, value in truth(source).items():
        if isinstance(value, tuple) and len(value) == 3 and isinstance(value[1], tuple):
            assert found[fqn] == value
