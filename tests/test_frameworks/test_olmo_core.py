"""OLMo-core loads what surgery makes of its checkpoint, in the parts that it looks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.test_frameworks import results

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("olmo_core")
SAVE = "frameworks/olmo_core/flattened_skipstep_w2/step3"


@pytest.fixture(scope="module")
def save(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole step directory as Checkpointer.save leaves it; `train/` and `.metadata.json`."""
    import shutil

    import torch

    path = tmp_path_factory.mktemp("olmo") / "step3"
    shutil.copytree(shared / SAVE, path)
    (path / "train").mkdir()
    for rank in range(2):
        torch.save({"global_step": 3, "rank": rank}, path / f"train/rank{rank}.pt")
    (path / ".metadata.json").write_text('{"version": "3.0.0"}')
    (path / "config.json").write_text("{}")
    return path


class Job:
    """What Checkpointer.load asks of a train module."""

    def __init__(self, path: Path) -> None:
        from olmo_core.optim.adamw import SkipStepAdamW

        self.model = results.module_of(path, "model.")
        self.optim = SkipStepAdamW(self.model.parameters(), lr=1.0)

    def state_dict_to_load(self, metadata: Any, *, optim: bool | None = None) -> dict[str, Any]:
        from olmo_core.distributed.checkpoint import _prepare_state_dict

        return _prepare_state_dict(self.model, self.optim, flatten_optimizer_state=True)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        import torch.distributed.checkpoint.state_dict as sd

        options = sd.StateDictOptions(strict=True, flatten_optimizer_state_dict=True)
        sd.set_model_state_dict(self.model, state["model"], options=options)
        sd.set_optimizer_state_dict(self.model, self.optim, state["optim"], options=options)


def loaded(path: Path, *, lr: float) -> None:
    from olmo_core.train.checkpoint import Checkpointer

    job = Job(path)
    checkpointer = Checkpointer(work_dir=path.parent)
    trainer = checkpointer.load(path, job, load_trainer_state=True)
    assert trainer is not None and trainer["global_step"] == 3
    wanted = results.numbers(path)
    for name, parameter in job.model.named_parameters():
        assert parameter.detach().numpy().tobytes() == wanted[f"model.{name}"], name
        slots = job.optim.state[parameter]
        for slot in ("exp_avg", "exp_avg_sq"):
            assert slots[slot].numpy().tobytes() == wanted[f"optim.state.{name}.{slot}"], name
    assert job.optim.param_groups[0]["lr"] == lr


@pytest.mark.parametrize("verb", results.SAME_NAMES)
def test_what_keeps_the_names(save: Path, tmp_path: Path, verb: str) -> None:
    made = results.SAME_NAMES[verb](save, tmp_path / "out")
    loaded(made, lr=0.003)
    assert results.files(made) == results.files(save)


def test_edits(save: Path, tmp_path: Path) -> None:
    made = results.carry_out(
        save,
        tmp_path / "out",
        results.rename("model.layers", "model.blocks"),
        results.set_to("lr=0.5"),
    )
    assert any(".blocks." in fqn for fqn in results.numbers(made))
    loaded(made, lr=0.5)


def test_in_place_and_undone(save: Path, tmp_path: Path) -> None:
    edit = results.set_to("lr=0.25")
    loaded(results.in_place(save, tmp_path / "edited", edit), lr=0.25)
    loaded(results.undone(save, tmp_path / "undone", edit), lr=0.003)
