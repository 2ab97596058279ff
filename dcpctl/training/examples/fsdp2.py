"""Plain PyTorch: `fully_shard`, `get_state_dict` and `set_state_dict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from dcpctl.training.examples.common import Model, tell


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a new model, sharded over all ranks, and its optimizer."""
    torch.manual_seed(0)
    model = Model()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))


def save(model: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Save both."""
    weights, moments = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=path)


def load(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    path: Path,
    planner: dcp.DefaultLoadPlanner,
    bug: bool,
) -> None:
    """Load both; with the bug, the model alone, as the workaround for a missing key does."""
    if bug:
        only: dict[str, Any] = {"model": get_model_state_dict(model)}
        dcp.load(only, checkpoint_id=path, planner=planner)
        set_model_state_dict(model, only["model"])
        return
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments}
    dcp.load(state, checkpoint_id=path, planner=planner)
    set_state_dict(
        model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the example."""
    return tell(build, save, load, arguments)


if __name__ == "__main__":
    sys.exit(main())
