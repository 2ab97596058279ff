"""Make the sample checkpoints again, with the installed torch, on four CPU ranks.

    torchrun --nproc-per-node=4 sample_checkpoints/make.py

A tiny llama-like model is really trained for a few steps; then `step` is set to the one that the
directory's name says and everything is saved. Weights differ from release to release of torch and
the save's id from run to run; names, shapes and layouts do not. `legacy` and `releases/` are not
made here: each was written by the release that it stands for.
"""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import derived
import tiny_llama
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import truth
from torch.distributed.checkpoint._extension import ZStandard
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

#: Relative to the repository, where `main` goes: DCP stores the path that it was given.
HERE = Path("sample_checkpoints")
MADE = (
    "healthy",
    "model_only",
    "silent_reset",
    "fsdp_tp_2x2",
    "zstd",
    "no_collectives",
    *("interrupted", "flipped_bit", "hostile"),
)


class Run:
    """One training run: model, optimizer and scheduler on a mesh."""

    def __init__(self, layers: int, mesh: DeviceMesh) -> None:
        self.model = tiny_llama.sharded_model(layers, mesh)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
            lr=3e-4,
            betas=(0.9, 0.95),
        )
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=20_000)
        self.step = 0
        # Ranks of one tensor-parallel group must see the same tokens, or their replicas part.
        self.data_rank = mesh.get_local_rank("dp") if mesh.ndim == 2 else mesh.get_local_rank()

    def train(self, steps: int) -> None:
        """Take real steps on random tokens, different on every data-parallel rank."""
        generator = torch.Generator().manual_seed(1_000 * self.step + self.data_rank)
        for _ in range(steps):
            tokens = torch.randint(tiny_llama.VOCABULARY, (2, 12), generator=generator)
            logits = self.model(tokens[:, :-1])
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
            self.step += 1

    def pretend(self, step: int, *, optimizer_step: int | None = None) -> None:
        """Set the run's step, and the optimizer's own count where it differs."""
        self.step = step
        for state in self.optimizer.state.values():
            state["step"].fill_(step if optimizer_step is None else optimizer_step)

    def model_state(self) -> dict[str, Any]:
        """Return what the workaround saves: the model alone."""
        return {"model": get_model_state_dict(self.model)}

    def state(self) -> dict[str, Any]:
        """Return all that resuming needs."""
        return {
            **self.model_state(),
            "optimizer": get_optimizer_state_dict(self.model, self.optimizer),
            "lr_scheduler": self.scheduler.state_dict(),
            "train_state": {"step": self.step, "tokens_seen": 88 * self.step},
        }


def save(state: dict[str, Any], name: str, **options: Any) -> None:
    """Save `state` as `sample_checkpoints/<name>`, with the truth about it beside."""
    target = HERE / name
    expected = truth.describe(state)
    dcp.save(state, checkpoint_id=target, **options)
    if dist.get_rank() == 0:
        truth.write(target, expected)
        print("saved", target)


def healthy_and_model_only(mesh: DeviceMesh) -> None:
    """A run as it should be, and the same run saved with the bug's workaround."""
    run = Run(2, mesh)
    run.train(3)
    run.pretend(8_500)
    save(run.state(), "healthy/step-8500")
    save(run.model_state(), "model_only/step-8500")


def silent_reset(mesh: DeviceMesh) -> None:
    """Three saves of a run that resumed its model, and not its optimizer, after the second."""
    run = Run(1, mesh)
    run.train(3)
    run.pretend(8_500)
    save(run.state(), "silent_reset/step-8500")
    run.train(3)
    run.pretend(9_000)
    save(run.state(), "silent_reset/step-9000")
    resumed = Run(1, mesh)
    state = resumed.model_state()
    dcp.load(state, checkpoint_id=HERE / "silent_reset/step-9000")
    set_model_state_dict(resumed.model, state["model"])
    resumed.train(3)
    resumed.pretend(9_500, optimizer_step=500)
    save(resumed.state(), "silent_reset/step-9500")


def other_forms(mesh: DeviceMesh) -> None:
    """A 2-d layout, compressed items, and a save without a common `.metadata`."""
    grid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    run = Run(1, grid)
    run.train(2)
    run.pretend(8_500)
    save(run.state(), "fsdp_tp_2x2")
    model_state = Run(1, mesh).model_state()
    compressed = dcp.FileSystemWriter(HERE / "zstd", _extensions=[ZStandard()])
    save(model_state, "zstd", storage_writer=compressed)
    save(model_state, "no_collectives", use_collectives=False)


def main() -> None:
    """Make everything, then derive the broken ones on rank 0."""
    warnings.filterwarnings("ignore")
    os.chdir(Path(__file__).resolve().parent.parent)
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    if dist.get_rank() == 0:
        for name in MADE:
            shutil.rmtree(HERE / name, ignore_errors=True)
    dist.barrier()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    healthy_and_model_only(mesh)
    silent_reset(mesh)
    other_forms(mesh)
    dist.barrier()
    if dist.get_rank() == 0:
        derived.main()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
