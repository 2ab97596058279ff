"""`StrictLoadPlanner` in one process: what it refuses and why, and what it writes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.distributed.checkpoint as dcp  # noqa: E402
from torch import nn  # noqa: E402
from torch.distributed.checkpoint.state_dict import get_state_dict  # noqa: E402

from dcpctl.errors import UsageError  # noqa: E402
from dcpctl.model.opening import open_checkpoint  # noqa: E402
from dcpctl.model.receipt import SkippedKey, read_receipt  # noqa: E402
from dcpctl.training import LoadRefused, StrictLoadPlanner  # noqa: E402

# torch says so of every load in one process.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is")

Tree = dict[str, Any]


def build() -> tuple[nn.Module, Any]:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4))
    return model, torch.optim.AdamW(model.parameters())


def asked() -> Tree:
    """The state dict of a new model and optimizer, and of what else a job has."""
    model, optimizer = build()
    weights, moments = get_state_dict(model, optimizer)
    return {
        "model": weights,
        "optimizer": moments,
        "lr_scheduler": {"last_epoch": 3},
        "dataloader": {"dp_rank_0": 1, "dp_rank_1": 2},
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "step-3"
    with pytest.warns(UserWarning, match="torch.distributed is"):
        dcp.save(asked(), checkpoint_id=path)
    return path


def load(state: Tree, path: Path, **options: Any) -> None:
    dcp.load(state, checkpoint_id=path, planner=StrictLoadPlanner(**options))


def refused(state: Tree, path: Path, **options: Any) -> str:
    with pytest.raises(dcp.CheckpointException) as caught:
        load(state, path, **options)
    error = caught.value.failures[0][0]
    assert isinstance(error, LoadRefused)
    assert (error.id, error.exit_code) == ("load-refused", 4)
    return str(error)


def without(*keys: str) -> Tree:
    return {key: value for key, value in asked().items() if key not in keys}


def wrapped(state: Tree) -> Tree:
    state["model"] = {f"_orig_mod.{key}": value for key, value in state["model"].items()}
    return state


def flat_model(state: Tree) -> Tree:
    return {**state.pop("model"), **state}


def smaller(state: Tree) -> Tree:
    state["model"]["0.weight"] = torch.zeros(2, 4)
    return state


def deeper(state: Tree) -> Tree:
    state["model"]["3.weight"] = torch.zeros(2, 4)
    return state


def by_index(state: Tree) -> Tree:
    model, optimizer = build()
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    return {**state, "optimizer": optimizer.state_dict()}


def frozen(state: Tree) -> Tree:
    del state["optimizer"]["state"]["2.weight"]
    return state


def shorter_model(state: Tree) -> Tree:
    del state["model"]["2.bias"]
    return state


def other_key(state: Tree) -> Tree:
    del state["optimizer"]["param_groups"][0]["lr"]
    return state


CASES: dict[str, tuple[Callable[[Tree], Tree], list[str]]] = {
    "a wrapper": (
        wrapped,
        ["lacks 6 that the run asks for", "not on disk (6):\n    'model._orig_mod.0.weight'",
         "and 1 more",
         "cause: a wrapper's name is in the keys: 'model.0.weight' on disk",
         "fix: dcpctl upgrade CHECKPOINT NEW"],
    ),
    "another root": (
        flat_model,
        ["cause: the names begin differently: 'model.0.bias' on disk, '0.bias' in the run",
         "dcpctl rename CHECKPOINT NEW --prefix OLD=NEW"],
    ),
    "another shape": (
        smaller,
        ["'model.0.weight' is float32 [4, 4], asked for as float32 [2, 4]",
         "dcpctl inspect CHECKPOINT --keys"],
    ),
    "another layer": (
        deeper,
        ["lacks 1 that the run asks for", "not on disk (1):\n    'model.3.weight'",
         "allow_partial_load"],
    ),
    "parts of what is one piece": (
        lambda state: {**state, "lr_scheduler": {"last_epoch": {"a": 1}}},
        ["torch 2.3 and before save 'lr_scheduler.last_epoch' in one piece"],
    ),
    "optimizer by index": (
        by_index,
        ["cause: the optimizer's parameters have a name each on disk and an index in the run",
         "fix: dcpctl upgrade CHECKPOINT NEW --optimizer-keys index"],
    ),
    "a parameter frozen": (
        frozen,
        ["3 of them not asked for by the run",
         "cause: the run's optimizer asks for 15 of the 18 entries of state on disk",
         'ignore=["optimizer.state.2.weight"]'],
    ),
    "a smaller model": (
        shorter_model,
        ["cause: the run's model has fewer parameters or buffers", 'ignore=["model.2.bias"]'],
    ),
    "a key of a scheduler": (
        other_key,
        ["cause: the run's optimizer does not have these keys",
         'ignore=["optimizer.param_groups.0.lr"]'],
    ),
    "no scheduler": (
        lambda state: {key: state[key] for key in state if key != "lr_scheduler"},
        ["not asked for, scheduler (1):\n    'lr_scheduler.last_epoch'", "saved as 'lr_scheduler'",
         'ignore=["lr_scheduler"]'],
    ),
    "fewer data loaders": (
        lambda state: {**state, "dataloader": {"dp_rank_0": 1}},
        ["did the run have more ranks?", 'ignore=["dataloader.dp_rank_1"]'],
    ),
    "no optimizer, no scheduler": (
        lambda state: {key: state[key] for key in ("model", "dataloader")},
        ["31 of them not asked for by the run",
         "cause: the state dict has no optimizer", "as 'optimizer', from",
         'ignore=["optimizer", "lr_scheduler"]'],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_refused_and_why(saved: Path, case: str) -> None:
    change, says = CASES[case]
    told = refused(change(asked()), saved)
    assert told.startswith(f"nothing was loaded: the checkpoint (saved as '{saved}') has 39 keys")
    for text in says:
        assert text in told
    assert told.count("cause: ") == told.count("fix: ") > 0


def test_what_is_meant_may_stay(saved: Path) -> None:
    load(asked(), saved)
    load({"model": asked()["model"]}, saved, ignore=["opt*", "lr_scheduler", "dataloader"])
    load(without("lr_scheduler"), saved, ignore="lr_scheduler")
    assert "'optimizer.state" in refused(
        {"model": asked()["model"]}, saved, ignore=["lr_*", "dataloader", "optimizer.param_groups"]
    )


def test_five_names_and_a_count(saved: Path) -> None:
    lines = refused({"model": asked()["model"]}, saved).splitlines()
    at = lines.index("  not asked for, optimizer (30):")
    assert all(line.startswith("    'optimizer.state.") for line in lines[at + 1 : at + 6])
    assert lines[at + 6] == "    and 25 more"


def test_nothing_is_read_before_the_refusal(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a byte was read")

    monkeypatch.setattr(dcp.FileSystemReader, "read_data", read)
    assert "no optimizer" in refused({"model": asked()["model"]}, saved)


def test_the_receipt(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    load(without("lr_scheduler"), saved, ignore=["lr_*"], receipt=path)
    receipt = read_receipt(path)
    assert receipt.skipped == (SkippedKey("lr_scheduler.last_epoch", ignored=True),)
    assert (receipt.saved_as, receipt.world_size, receipt.missing) == (str(saved), 1, ())
    assert receipt.torch == torch.__version__
    with open_checkpoint(saved) as checkpoint:
        assert receipt.differs_from(checkpoint) == ""

    load(deeper(asked()), saved, allow_partial_load=True, receipt=path)
    assert read_receipt(path).missing == ("model.3.weight",)
    assert len(read_receipt(path).loaded) == 39

    refused({"model": asked()["model"]}, saved, receipt=path)
    assert not path.exists()  # not the receipt of the load before


def test_a_receipt_of_a_load_that_reads_nothing(tmp_path: Path) -> None:
    dcp.save({}, checkpoint_id=tmp_path / "empty")
    load({}, tmp_path / "empty", receipt=tmp_path / "receipt.json")
    assert read_receipt(tmp_path / "receipt.json").loaded == ()


def test_a_load_that_breaks_leaves_no_receipt(saved: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in saved.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    shard = next(broken.glob("*.distcp"))
    shard.write_bytes(shard.read_bytes()[:-200])
    with pytest.raises(dcp.CheckpointException):
        load(asked(), broken, receipt=tmp_path / "receipt.json")
    assert not (tmp_path / "receipt.json").exists()


def test_allowing_a_partial_load_guards_the_rest(saved: Path) -> None:
    state = deeper(without("optimizer"))
    told = refused(state, saved, allow_partial_load=True)
    assert "no optimizer" in told
    assert "3.weight" not in told


def test_the_error_crosses_ranks() -> None:
    error = pickle.loads(pickle.dumps(LoadRefused("what\n  cause: why")))
    assert (str(error), error.exit_code) == ("what\n  cause: why", 4)


def test_names_are_harmless_in_a_log(tmp_path: Path) -> None:
    hostile = "evil\x1b[2J\u202e"
    dcp.save({hostile: {"lr": 1}, hostile + "w": torch.ones(1)}, checkpoint_id=tmp_path / "x")
    told = refused({}, tmp_path / "x")
    assert "evil\\x1b[2J\\u202e" in told
    assert told.isascii()
    assert told.replace("\n", "").isprintable()


def test_without_flattening(tmp_path: Path) -> None:
    state = {"a": torch.ones(2), "b": torch.zeros(2), "c": 3}
    planner = dcp.DefaultSavePlanner(flatten_state_dict=False)
    dcp.save(state, checkpoint_id=tmp_path / "x", planner=planner)
    found = {"a": torch.zeros(2), "b": torch.zeros(2), "c": 0}
    load(found, tmp_path / "x", flatten_state_dict=False)
    assert found["a"].tolist() == [1, 1]
    del found["b"]
    assert "not asked for, other (1):\n    'b'" in refused(
        found, tmp_path / "x", flatten_state_dict=False
    )


def test_a_planner_may_be_used_again(saved: Path) -> None:
    planner = StrictLoadPlanner()
    with pytest.raises(dcp.CheckpointException):
        dcp.load(without("optimizer"), checkpoint_id=saved, planner=planner)
    dcp.load(asked(), checkpoint_id=saved, planner=planner)


def save(tmp_path: Path, **values: Any) -> Path:
    dcp.save(values, checkpoint_id=tmp_path / "one")
    return tmp_path / "one"


KINDS = [
    (torch.float32, torch.int64), (torch.bfloat16, torch.bool), (torch.int32, torch.bool),
    (torch.complex64, torch.float32),
]  # fmt: skip


@pytest.mark.parametrize(("stored", "here"), KINDS, ids=str)
def test_numbers_of_another_kind_are_refused(tmp_path: Path, stored: Any, here: Any) -> None:
    """`copy_` cuts 0.7 to 0, and 0.7 to True: torch says nothing."""
    path = save(tmp_path, x=torch.ones(3, dtype=stored), y=torch.ones(2))
    state = {"x": torch.zeros(3, dtype=here), "y": torch.zeros(2)}
    text = refused(state, path)
    name = str(stored).removeprefix("torch.")
    assert f"'x' is {name} [3], asked for as {str(here).removeprefix('torch.')} [3]" in text
    assert "of another kind (1)" in text
    assert "cannot hold what was saved" in text
    assert "in another shape" not in text
    assert not state["x"].any()


def test_an_object_takes_no_tensors_place(tmp_path: Path) -> None:
    text = refused({"x": torch.zeros(())}, save(tmp_path, x=7))
    assert "'x' is an object, asked for as float32 []" in text
    assert "of another kind (1)" in text


def test_shapes_and_kinds_are_told_apart(tmp_path: Path) -> None:
    path = save(tmp_path, x=torch.ones(3), y=torch.ones(2))
    text = refused({"x": torch.zeros(3, dtype=torch.int64), "y": torch.zeros(4)}, path)
    assert "in another shape (1):\n    'y'" in text
    assert "of another kind (1):\n    'x'" in text


ROUNDED = [
    (torch.float32, torch.bfloat16), (torch.float64, torch.float32),
    (torch.bfloat16, torch.float16), (torch.float16, torch.bfloat16), (torch.int64, torch.int32),
]  # fmt: skip


@pytest.mark.parametrize(("stored", "here"), ROUNDED, ids=str)
def test_rounding_is_told(tmp_path: Path, stored: Any, here: Any) -> None:
    path = save(tmp_path, x=torch.full((3,), 3, dtype=stored))
    state = {"x": torch.zeros(3, dtype=here)}
    with pytest.warns(UserWarning, match="the load rounds numbers to another dtype") as told:
        load(state, path)
    assert any("'x' is" in str(one.message) for one in told)
    assert bool((state["x"] == 3).all())
    state = {"x": torch.zeros(3, dtype=here)}
    assert "rounded by the load (1)" in refused(state, path, on_lossy="raise")
    assert not state["x"].any()


@pytest.mark.parametrize(
    ("stored", "here"),
    [(torch.float32, torch.float64), (torch.bfloat16, torch.float32), (torch.int32, torch.int64),
     (torch.int64, torch.float32), (torch.bool, torch.int8)],
    ids=str,
)  # fmt: skip
def test_what_rounds_nothing_is_loaded(tmp_path: Path, stored: Any, here: Any) -> None:
    path = save(tmp_path, x=torch.ones(3, dtype=stored))
    load({"x": torch.zeros(3, dtype=here)}, path, on_lossy="raise")


def test_on_lossy_is_one_of_two() -> None:
    with pytest.raises(UsageError):
        StrictLoadPlanner(on_lossy="ignore")  # type: ignore[arg-type]
