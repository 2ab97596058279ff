"""Lightning Fabric loads what surgery makes of its checkpoint: `.metadata` and `meta.pt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.test_frameworks import results

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]
lightning = pytest.importorskip("lightning")
SAVE = "frameworks/lightning/fabric_mp_w2/epoch=0-step=3.ckpt"


@pytest.fixture(scope="module")
def fabric() -> Any:
    from lightning.fabric.strategies import ModelParallelStrategy

    def parallelize(model: Any, mesh: Any) -> Any:
        from torch.distributed.fsdp import fully_shard

        return fully_shard(model, mesh=mesh["data_parallel"])

    strategy = ModelParallelStrategy(parallelize, data_parallel_size=1, tensor_parallel_size=1)
    made = lightning.Fabric(accelerator="cpu", devices=1, strategy=strategy)
    made.launch()
    return made


def loaded(fabric: Any, path: Path, *, lr: float) -> None:
    """Load a result as the job would, and compare every number with it."""
    import torch

    model = fabric.setup_module(results.module_of(path, "model."))
    optimizer = fabric.setup_optimizers(torch.optim.AdamW(model.parameters(), lr=1.0))
    state = {"model": model, "optimizer": optimizer, "global_step": 0, "epoch": 9}
    rest = fabric.load(path, state)
    assert (state["global_step"], state["epoch"]) == (3, 0)
    assert rest == {"hparams": {"lr": 0.003}}
    wanted = results.numbers(path)
    for name, parameter in model.module.named_parameters():
        full = parameter.full_tensor().detach()
        assert full.numpy().tobytes() == wanted[f"model.{name}"], name
        slots = optimizer.state[parameter]
        for slot in ("exp_avg", "exp_avg_sq"):
            moment = slots[slot].full_tensor().numpy().tobytes()
            assert moment == wanted[f"optimizer.state.{name}.{slot}"], (name, slot)
        assert float(slots["step"]) == 3
    assert optimizer.param_groups[0]["lr"] == lr


@pytest.mark.parametrize("verb", results.SAME_NAMES)
def test_what_keeps_the_names(shared: Path, tmp_path: Path, fabric: Any, verb: str) -> None:
    loaded(fabric, results.SAME_NAMES[verb](shared / SAVE, tmp_path / "out"), lr=0.003)


def test_edits(shared: Path, tmp_path: Path, fabric: Any) -> None:
    made = results.carry_out(
        shared / SAVE,
        tmp_path / "out",
        results.rename("model.layers", "model.blocks"),
        results.set_to("lr=0.5"),
    )
    assert any(".blocks." in fqn for fqn in results.numbers(made))
    loaded(fabric, made, lr=0.5)


def test_in_place_and_undone(shared: Path, tmp_path: Path, fabric: Any) -> None:
    edit = results.set_to("lr=0.25")
    loaded(fabric, results.in_place(shared / SAVE, tmp_path / "edited", edit), lr=0.25)
    loaded(fabric, results.undone(shared / SAVE, tmp_path / "undone", edit), lr=0.003)


def test_without_meta_pt_it_is_no_checkpoint(shared: Path, tmp_path: Path, fabric: Any) -> None:
    """Why files beside the shards are carried over."""
    made = results.carry_out(shared / SAVE, tmp_path / "out", results.set_to("lr=0.5"))
    (made / "meta.pt").unlink()
    with pytest.raises(ValueError, match="does not point to a valid checkpoint"):
        loaded(fabric, made, lr=0.5)
