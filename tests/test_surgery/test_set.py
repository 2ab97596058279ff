from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import DcpctlError, NothingSelected, Refused, UsageError
from dcpctl.model.draft import Draft, TensorDraft
from dcpctl.surgery.set import Assignment, Set, assignment
from dcpctl.surgery.settings.assign import assign
from dcpctl.surgery.settings.literals import parse
from tests.test_surgery import oracle


def value(draft: Draft, fqn: str) -> Any:
    entry: Any = draft.entries[fqn]
    return entry.value


def with_set(draft: Draft, *texts: str, **flags: bool) -> Draft:
    return assign(draft, [assignment(text) for text in texts], **flags).draft


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1e-4", 1e-4),
        ("-3", -3),
        ("true", True),
        ("False", False),
        ("null", None),
        ("None", None),
        ("inf", float("inf")),
        ("0.9,0.95", (0.9, 0.95)),
        ("(0.9, 0.95)", (0.9, 0.95)),
        ("[1, 2]", [1, 2]),
        ("'text'", "text"),
    ],
)
def test_values_as_they_are_typed(text: str, meant: object) -> None:
    found = parse(text)
    assert found == meant and type(found) is type(meant)


@pytest.mark.parametrize(
    "text", ["", "foo", "1e", "{}", "{1: 2}", "b'x'", "f(1)", "(" * 9999, "1+"]
)
def test_what_is_no_value(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "fqn", "meant"),
    [
        ("lr=1e-4", "optimizer.param_groups.1.lr", 1e-4),
        ("lr=1", "optimizer.param_groups.0.lr", 1.0),
        ("betas=0.9,0.99", "optimizer.param_groups.0.betas", (0.9, 0.99)),
        ("betas=[0, 0.5]", "optimizer.param_groups.0.betas", (0.0, 0.5)),
        ("amsgrad=true", "optimizer.param_groups.0.amsgrad", True),
        ("foreach=false", "optimizer.param_groups.0.foreach", False),
        ("train_state.step=9000", "train_state.step", 9000),
        ("lr_scheduler.base_lrs=[1, 2e-4]", "lr_scheduler.base_lrs", [1.0, 2e-4]),
        ("optimizer.param_groups.*.lr=2", "optimizer.param_groups.0.lr", 2.0),
    ],
)
def test_bytes_entries_keep_their_type(healthy: Draft, text: str, fqn: str, meant: object) -> None:
    found = value(with_set(healthy, text), fqn)
    assert found == meant and type(found) is type(meant)


def test_step_keeps_dtype_and_shape(healthy: Draft) -> None:
    outcome = assign(healthy, [assignment("step=9000")])
    assert len(outcome.changes) == 21
    for fqn, entry in outcome.draft.entries.items():
        if fqn.startswith("optimizer.state.") and fqn.endswith(".step"):
            assert isinstance(entry, TensorDraft)
            assert (entry.dtype, entry.shape, entry.numpy().item()) == ("float32", (), 9000.0)
    assert value(outcome.draft, "train_state.step") == 8500, "a bare name is the optimizer's"


def test_members_of_pickled_param_groups(samples: Path, opened: Callable[[Path], Draft]) -> None:
    draft = opened(samples / "releases" / "2.1.2-optim_AdamW")
    made = with_set(draft, "lr=0.5", "optimizer.param_groups.0.betas=0.8,0.9")
    group = value(made, "optimizer.param_groups")[0]
    assert (group["lr"], group["betas"]) == (0.5, (0.8, 0.9))
    assert value(draft, "optimizer.param_groups")[0]["lr"] == 1e-3, "the source is as it was"
    assert list(group) == list(value(draft, "optimizer.param_groups")[0])


def test_a_learning_rate_that_is_an_int(shared: Path, opened: Callable[[Path], Draft]) -> None:
    draft = opened(shared / "checkpoints" / "2.13.0" / "optim_LBFGS" / "ckpt")
    assert value(draft, "optimizer.param_groups.0.lr") == 1
    assert value(with_set(draft, "lr=0.125"), "optimizer.param_groups.0.lr") == 0.125


def test_flattened_param_groups(shared: Path, opened: Callable[[Path], Draft]) -> None:
    draft = opened(shared / "checkpoints" / "2.13.0" / "fsdp2_flat_fp32" / "ckpt")
    made = with_set(draft, "weight_decay=0.25")
    found = [value(made, f) for f in made.entries if f.endswith(".weight_decay")]
    assert len(found) > 5 and set(found) == {0.25}


def test_a_learning_rate_that_is_a_tensor(shared: Path, opened: Callable[[Path], Draft]) -> None:
    draft = opened(shared / "checkpoints" / "2.13.0" / "lr_tensor" / "ckpt")
    made = with_set(draft, "lr=0.125")
    found = [e for f, e in made.entries.items() if f.endswith(".lr")]
    assert found and all(isinstance(e, TensorDraft) and e.numpy().item() == 0.125 for e in found)


def test_what_is_so_already_is_no_change(healthy: Draft) -> None:
    outcome = assign(healthy, [assignment("step=8500")])
    assert not outcome.changes
    assert outcome.notes == ("21 values are so already",)
    assert all(entry.untouched for entry in outcome.draft.entries.values())


def test_a_scheduler_is_warned_of(healthy: Draft) -> None:
    (warning,) = assign(healthy, [assignment("lr=1e-4")]).warnings
    assert "scheduler computes lr from its own values" in warning
    assert "lr_scheduler.base_lrs" in warning


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("nope=3", NothingSelected, "nothing to set is called 'nope'"),
        ("optimizer.param_groups.7.lr=3", NothingSelected, "is called"),
        ("lr", UsageError, "expected FQN=VALUE"),
        ("lr=fast", UsageError, "'fast' is no value"),
        ("lr=true", Refused, "holds a float .* not a bool"),
        ("lr=-1", Refused, "torch asks for at least 0"),
        ("lr=nan", Refused, "torch asks for"),
        ("betas=0.9", Refused, "holds a tuple .* not a float"),
        ("betas=0.9,1", Refused, "less than 1"),
        ("betas=0.9,0.9,0.9", Refused, "has 2 numbers and 3 are given"),
        ("amsgrad=1", Refused, "holds a bool"),
        ("amsgrad=null", Refused, "not null"),
        ("foreach=1", Refused, "is a switch"),
        ("train_state.step=9000.5", Refused, "holds an int"),
        ("step=true", Refused, "not a bool"),
        ("step=null", Refused, "is no number"),
        ("optimizer.param_groups.0.params=[]", Refused, "lists parameters"),
        ("model.norm.weight=0", Refused, "tensor of 16 elements"),
    ],
)
def test_refusals(healthy: Draft, text: str, error: type[DcpctlError], words: str) -> None:
    with pytest.raises(error, match=words):
        with_set(healthy, text)


def test_change_type(healthy: Draft) -> None:
    made = with_set(healthy, "train_state.step='late'", change_type=True)
    assert value(made, "train_state.step") == "late"


def test_numbers_that_a_dtype_cannot_hold(shared: Path, opened: Callable[[Path], Draft]) -> None:
    draft = opened(shared / "checkpoints" / "2.13.0" / "dtensor_zoo" / "ckpt")
    kinds = {e.dtype: f for f, e in draft.entries.items() if isinstance(e, TensorDraft)}
    for dtype, number in (("int8", 300), ("uint8", -1), ("int32", 0.5), ("float16", 1e6)):
        if dtype in kinds:
            with pytest.raises(Refused, match=f"{dtype} cannot hold"):
                assign(draft, [Assignment(kinds[dtype], number)], fill=True)


@pytest.mark.torch
def test_torch_loads_what_was_set(samples: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    source = samples / "healthy" / "step-8500"
    texts = ("lr=1e-4", "step=9000", "optimizer.param_groups.0.betas=0.8,0.9")
    edits = [
        Set(tuple(map(assignment, texts))),
        Set((assignment("model.layers.0.attention.wq.weight=0.5"),), fill=True),
    ]
    found = oracle.by_torch(oracle.made(source, tmp_path / "made", *edits))
    wanted = oracle.truth(source)
    for fqn in wanted:
        if fqn.startswith("optimizer.state.") and fqn.endswith(".step"):
            wanted[fqn] = oracle.describe(torch.tensor(9000.0))
    wanted["optimizer.param_groups.0.lr"] = wanted["optimizer.param_groups.1.lr"] = 1e-4
    wanted["optimizer.param_groups.0.betas"] = (0.8, 0.9)
    wanted["model.layers.0.attention.wq.weight"] = oracle.describe(torch.full((16, 16), 0.5))
    assert found == wanted
    assert type(found["optimizer.param_groups.0.lr"]) is float
