"""megatron-core loads what surgery makes of its checkpoint: `common.pt` and `metadata.json` too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcpctl.surgery.cast import Cast
from dcpctl.surgery.select import Select
from tests.test_frameworks import results

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("megatron.core")
SAVE = "frameworks/megatron_core/gpt_tp2_w2/iter_0000003"


@pytest.fixture(scope="module", autouse=True)
def job(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One process of Megatron's, on a CPU: only what its loader asks of CUDA is stubbed."""
    import torch
    from megatron.core import parallel_state

    patch = pytest.MonkeyPatch()
    patch.setattr(torch.cuda, "current_device", lambda: torch.device("cpu"))
    patch.setattr(torch.cuda, "synchronize", lambda *rest: None)
    store = f"file://{tmp_path_factory.mktemp('job') / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    yield
    parallel_state.destroy_model_parallel()
    torch.distributed.destroy_process_group()
    patch.undo()


def loaded(path: Path) -> None:
    import torch
    from megatron.core import dist_checkpointing

    found = dist_checkpointing.load_plain_tensors(str(path))
    assert found["iteration"] == 3
    assert found["args"] is not None  # of common.pt
    tensors = {fqn: value for fqn, value in found.items() if isinstance(value, torch.Tensor)}
    wanted = results.numbers(path)
    assert set(tensors) == set(wanted)
    for fqn, tensor in tensors.items():
        assert tensor.contiguous().numpy().tobytes() == wanted[fqn], fqn


def resumed(path: Path) -> None:
    """Load what another number of ranks asks for: sharded tensors, cut in two, and objects."""
    import torch
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing import ShardedTensor
    from megatron.core.dist_checkpointing.validation import StrictHandling

    sharded = dist_checkpointing.load_tensors_metadata(str(path))
    name = "embedding.word_embeddings.weight"
    full = sharded[name].global_shape
    halves = {
        f"half{rank}": ShardedTensor.from_rank_offsets(
            name, torch.empty(full[0] // 2, full[1]), (0, rank, 2), replica_id=0
        )
        for rank in range(2)
    }
    found = dist_checkpointing.load(halves, str(path), strict=StrictHandling.LOG_UNEXPECTED)
    joined = torch.cat([found["half0"], found["half1"]])
    assert joined.numpy().tobytes() == results.numbers(path)[name]


@pytest.mark.parametrize("verb", results.SAME_NAMES)
def test_what_keeps_the_names(shared: Path, tmp_path: Path, verb: str) -> None:
    made = results.SAME_NAMES[verb](shared / SAVE, tmp_path / "out")
    loaded(made)
    resumed(made)


def test_edits(shared: Path, tmp_path: Path) -> None:
    rename = results.rename("decoder.layers.mlp", "decoder.layers.ffn")
    loaded(results.carry_out(shared / SAVE, tmp_path / "renamed", rename))
    made = results.carry_out(shared / SAVE, tmp_path / "bf16", Cast("float64", ()))
    loaded(made)


def test_in_place_and_undone(shared: Path, tmp_path: Path) -> None:
    edit = results.rename("decoder.layers.mlp", "decoder.layers.ffn")
    loaded(results.in_place(shared / SAVE, tmp_path / "edited", edit))
    loaded(results.undone(shared / SAVE, tmp_path / "undone", edit))


def test_without_metadata_json_it_is_no_checkpoint(shared: Path, tmp_path: Path) -> None:
    """Why files beside the shards are carried over."""
    made = results.carry_out(shared / SAVE, tmp_path / "out", Select(("*",)))
    (made / "metadata.json").unlink()
    with pytest.raises(Exception, match="not a distributed checkpoint"):
        loaded(made)
