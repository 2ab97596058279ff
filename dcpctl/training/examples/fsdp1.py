"""FSDP1 with `StateDictType.SHARDED_STATE_DICT`, going on from what an older torch saved.

The save has no `decoupled_weight_decay`, as none before 2.7 has. Stock `dcp.load` of 2.7 and later
refuses it ("Missing key in checkpoint state_dict"); loading the model alone is the workaround that
loses the optimizer.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP  # noqa: N817 -- as people do
from torch.distributed.fsdp import StateDictType
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from dcpctl.training.examples.common import Block, Model, tell

#: The param-group keys of torch.optim.AdamW before 2.7, in their order.
KEYS_OF_2_6 = (
    *("lr", "betas", "eps", "weight_decay", "amsgrad", "foreach", "maximize"),
    *("capturable", "differentiable", "fused", "params"),
)


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a new model, sharded over all ranks, and its optimizer."""
    torch.manual_seed(0)
    model = FSDP(
        Model(),
        device_id=torch.device("cpu"),
        use_orig_params=True,
        auto_wrap_policy=ModuleWrapPolicy({Block}),
    )
    return model, torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))


def save(model: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Save both, as torch 2.6 would."""
    with FSDP.state_dict_type(model, StateDictType.SHARDED_STATE_DICT):
        state: dict[str, Any] = {
            "model": model.state_dict(),
            "optimizer": FSDP.optim_state_dict(model, optimizer),
        }
        state["optimizer"]["param_groups"] = [
            {key: group[key] for key in KEYS_OF_2_6} for group in state["optimizer"]["param_groups"]
        ]
        dcp.save(state, checkpoint_id=path)


def load(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    path: Path,
    planner: dcp.DefaultLoadPlanner,
    bug: bool,
) -> None:
    """Load both; with the bug, the model alone."""
    if not bug:
        make_state(optimizer)
    with FSDP.state_dict_type(model, StateDictType.SHARDED_STATE_DICT):
        state: dict[str, Any] = {"model": model.state_dict()}
        if not bug:
            state["optimizer"] = FSDP.optim_state_dict(model, optimizer)
        dcp.load(state, checkpoint_id=path, planner=planner)
        model.load_state_dict(state["model"])
        if not bug:
            moments = FSDP.optim_state_dict_to_load(model, optimizer, state["optimizer"])
            optimizer.load_state_dict(moments)


def make_state(optimizer: torch.optim.Optimizer) -> None:
    """Have a new optimizer make its state, without changing a weight.

    Before its first step it has none, and `dcp.load` fills only what is there.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def main(arguments: list[str] | None = None) -> int:
    """Run the example."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch\.distributed")  # FSDP1's, of itself
        return tell(build, save, load, arguments, upgrade=True)


if __name__ == "__main__":
    sys.exit(main())
