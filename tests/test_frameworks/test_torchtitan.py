"""torchtitan's CheckpointManager finds and loads what surgery makes of a step directory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.test_frameworks import results

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]
dcp = pytest.importorskip("torchtitan.components.checkpointer.dcp")
SAVE = "frameworks/torchtitan/titan_1group_w2/checkpoint/step-3"


@pytest.fixture(scope="module", autouse=True)
def job(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One process of the job."""
    import torch

    store = f"file://{tmp_path_factory.mktemp('job') / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


class Held:
    """A state of the trainer's: what it was asked for, and what it got."""

    def __init__(self, **state: Any) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return dict(self.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def loaded(run: Path, *, lr: float, step: int = 3) -> None:
    """Resume from a run's newest save, and compare every number with it."""
    from torchtitan.components.optimizer import (
        LRSchedulersContainer,
        OptimizersContainer,
        ParamGroupConfig,
    )

    path = run / "step-3"
    model = results.module_of(path, "", outside="optimizer.")
    optimizers = OptimizersContainer.Config(
        param_groups=[
            ParamGroupConfig(pattern=".*", optimizer_name="AdamW", optimizer_kwargs={"lr": 1.0})
        ],
        implementation="for-loop",
    ).build(model_parts=[model])
    schedule = LRSchedulersContainer.Config(warmup_steps=0).build(
        optimizers=optimizers, training_steps=100
    )
    trainer = Held(step=0, ntokens_seen=0)
    manager = dcp.CheckpointManager(
        dcp.CheckpointManager.Config(enable=True, folder=run.name),
        dataloader=Held(dp_rank_0=b"", world_size=1),
        model_parts=[model],
        optimizers=optimizers,
        lr_schedulers=schedule,
        states={"train_state": trainer},
        sd_adapter=None,
        base_folder=str(run.parent),
    )
    assert manager.load(step=-1)
    assert trainer.state == {"step": step, "ntokens_seen": 384}
    wanted = results.numbers(path)
    optimizer = optimizers.optimizers[0]
    for name, parameter in model.named_parameters():
        assert parameter.detach().numpy().tobytes() == wanted[name], name
        for slot in ("exp_avg", "exp_avg_sq"):
            moment = optimizer.state[parameter][slot].numpy().tobytes()
            assert moment == wanted[f"optimizer.state.{name}.{slot}"], (name, slot)
    assert optimizer.param_groups[0]["initial_lr"] == lr


@pytest.mark.parametrize("verb", results.SAME_NAMES)
def test_what_keeps_the_names(shared: Path, tmp_path: Path, verb: str) -> None:
    made = results.SAME_NAMES[verb](shared / SAVE, tmp_path / "run/step-3")
    loaded(made.parent, lr=0.003)


def test_edits(shared: Path, tmp_path: Path) -> None:
    made = results.carry_out(
        shared / SAVE,
        tmp_path / "run/step-3",
        results.rename("model.layers", "model.blocks"),
        results.set_to("initial_lr=0.5", "train_state.step=7"),
    )
    assert any(".blocks." in fqn for fqn in results.numbers(made))
    loaded(made.parent, lr=0.5, step=7)


def test_in_place_and_undone(shared: Path, tmp_path: Path) -> None:
    edit = results.set_to("initial_lr=0.25")
    loaded(results.in_place(shared / SAVE, tmp_path / "a/step-3", edit).parent, lr=0.25)
    loaded(results.undone(shared / SAVE, tmp_path / "b/step-3", edit).parent, lr=0.003)


def test_a_result_that_is_not_whole_is_not_found(shared: Path, tmp_path: Path) -> None:
    """A step directory without its metadata is passed over."""
    shutil.copytree(shared / SAVE, tmp_path / "run/step-4")
    (tmp_path / "run/step-4/.metadata").unlink()
    results.carry_out(shared / SAVE, tmp_path / "run/step-3", results.set_to("initial_lr=0.5"))
    loaded(tmp_path / "run", lr=0.5)
