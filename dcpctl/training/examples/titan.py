"""torchtitan's style: `Stateful` wrappers that `dcp.load` asks for their state and gives it back.

The model's keys stand at top level, the optimizer's are flattened by parameter name, and what a run
does not want is left out of the state dict (`checkpoint.exclude_from_loading`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.stateful import Stateful

from dcpctl.training.examples.common import SAVED_AT, tell
from dcpctl.training.examples.fsdp2 import build

_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


class OptimizerState(Stateful):
    """The optimizer's part of a checkpoint."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model = model
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        """Return the state, flattened by name; a new optimizer's is made first."""
        return dict(get_optimizer_state_dict(self.model, self.optimizer, options=_FLAT))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state."""
        set_optimizer_state_dict(self.model, self.optimizer, state_dict, options=_FLAT)


class TrainState(Stateful):
    """Where the job is."""

    def __init__(self, step: int = 0) -> None:
        self.step = step

    def state_dict(self) -> dict[str, Any]:
        """Return the step."""
        return {"step": torch.tensor(self.step)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the step."""
        self.step = int(state_dict["step"])


def states(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: TrainState,
    exclude: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return what is saved or loaded: the model's keys at top level, and the other parts."""
    parts: dict[str, Any] = {
        **get_model_state_dict(model),
        "optimizer": OptimizerState(model, optimizer),
        "train_state": train,
    }
    return {key: part for key, part in parts.items() if key not in exclude}


def save(model: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Save all parts."""
    dcp.save(states(model, optimizer, TrainState(SAVED_AT)), checkpoint_id=path)


def load(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    path: Path,
    planner: dcp.DefaultLoadPlanner,
    bug: bool,
) -> None:
    """Load all parts; with the bug, without the optimizer, whose `step` the job would not miss."""
    asked = states(model, optimizer, TrainState(), exclude=("optimizer",) if bug else ())
    dcp.load(asked, checkpoint_id=path, planner=planner)
    wrapped = {"optimizer", "train_state"}
    set_model_state_dict(model, {key: v for key, v in asked.items() if key not in wrapped})


def main(arguments: list[str] | None = None) -> int:
    """Run the example."""
    return tell(build, save, load, arguments)


if __name__ == "__main__":
    sys.exit(main())
