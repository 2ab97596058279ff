"""accelerate's load_state takes what surgery makes of a save in two parts and files beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.test_frameworks import results

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]
accelerate = pytest.importorskip("accelerate")
SAVES = ["frameworks/accelerate/fsdp1_w2", "frameworks/accelerate/fsdp2_w2"]


@pytest.fixture(scope="module", autouse=True)
def job(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One process of the job."""
    import torch

    patch = pytest.MonkeyPatch()
    address = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    for name, value in address.items():
        patch.setenv(name, value)
    store = f"file://{tmp_path_factory.mktemp('job') / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()
    patch.undo()


def prepared(path: Path, version: int) -> tuple[Any, Any, Any, Any]:
    """The accelerator, model, optimizer and scheduler of a job under FSDP on a CPU.

    accelerate drops the plugin on a CPU, so it is put back, as when the saves were made.
    """
    import torch
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    AcceleratorState._reset_state(reset_partial_state=True)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=version, state_dict_type="SHARDED_STATE_DICT", auto_wrap_policy="no_wrap"
    )
    accelerator = accelerate.Accelerator(cpu=True, fsdp_plugin=plugin)
    for state in (PartialState._shared_state, AcceleratorState._shared_state):
        state["distributed_type"] = DistributedType.FSDP
        state["device"] = torch.device("cpu")
    AcceleratorState._shared_state["fsdp_plugin"] = plugin
    model = results.module_of(path, "model.")
    if version == 1:  # FSDP1 makes other parameters, which the optimizer has to be given
        model = accelerator.prepare(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    if version == 1:
        # Without state, FSDP.optim_state_dict asks for none.
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        return (accelerator, model, *accelerator.prepare(optimizer, schedule))
    return (accelerator, *accelerator.prepare(model, optimizer, schedule))


def loaded(path: Path, version: int, *, lr: float) -> None:
    import torch
    from torch.distributed.checkpoint.state_dict import get_state_dict

    accelerator, model, optimizer, schedule = prepared(path, version)
    accelerator.load_state(str(path))
    # Of scheduler.bin: accelerate steps it once for each process, three times on two.
    assert schedule.scheduler.last_epoch == 6
    wanted = results.numbers(path)
    weights, state = get_state_dict(model, optimizer.optimizer)

    def full(value: Any) -> bytes:
        if hasattr(value, "full_tensor"):
            value = value.full_tensor()
        elif hasattr(value, "local_shards"):
            whole = torch.empty(value.size(), dtype=value.dtype)
            value.gather(0, whole)
            value = whole
        return bytes(value.detach().contiguous().numpy().tobytes())

    assert {f"model.{name}" for name in weights} == {k for k in wanted if k.startswith("model.")}
    for name, value in weights.items():
        assert full(value) == wanted[f"model.{name}"], name
    for name, slots in state["state"].items():
        for slot in ("exp_avg", "exp_avg_sq"):
            assert full(slots[slot]) == wanted[f"optimizer.state.{name}.{slot}"], (name, slot)
    assert {group["lr"] for group in state["param_groups"]} == {lr}


def save_of(shared: Path, name: str) -> tuple[Path, int, float]:
    path = shared / name / "checkpoint_3"
    return path, int(name[-4]), results.value(path, "optimizer.param_groups.0.lr")


@pytest.mark.parametrize("name", SAVES)
@pytest.mark.parametrize("verb", results.SAME_NAMES)
def test_what_keeps_the_names(shared: Path, tmp_path: Path, name: str, verb: str) -> None:
    path, version, lr = save_of(shared, name)
    made = results.SAME_NAMES[verb](path, tmp_path / "out")
    assert results.files(made) == results.files(path)
    loaded(made, version, lr=lr)


@pytest.mark.parametrize("name", SAVES)
def test_edits(shared: Path, tmp_path: Path, name: str) -> None:
    path, version, _ = save_of(shared, name)
    made = results.carry_out(
        path,
        tmp_path / "out",
        results.rename("model.layers", "model.blocks"),
        results.set_to("lr=0.5"),
    )
    assert any(".blocks." in fqn for fqn in results.numbers(made))
    loaded(made, version, lr=0.5)


@pytest.mark.parametrize("name", SAVES)
def test_in_place_and_undone(shared: Path, tmp_path: Path, name: str) -> None:
    path, version, lr = save_of(shared, name)
    edit = results.set_to("lr=0.25")
    loaded(results.in_place(path, tmp_path / "edited", edit), version, lr=0.25)
    loaded(results.undone(path, tmp_path / "undone", edit), version, lr=lr)
