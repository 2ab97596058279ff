"""FSDP1 as postmortems load it: what their fix does with a new optimizer, and what helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp import StateDictType

from dcpctl.training import StrictLoadPlanner, preview_load
from tests.test_training.guard_job import Block, refused, train, unresumed


def build(wrapper: str = "") -> tuple[nn.Module, torch.optim.Optimizer]:
    """Two blocks under FSDP1, an activation checkpoint's wrapper `inside`, `outside` or nowhere."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = [Block(), Block()]
    if wrapper == "inside":
        blocks = list(map(checkpoint_wrapper, blocks))
    wrapped: list[nn.Module] = [
        FSDP(block, device_id=torch.device("cpu"), use_orig_params=True) for block in blocks
    ]
    if wrapper == "outside":
        wrapped = list(map(checkpoint_wrapper, wrapped))
    model = FSDP(nn.Sequential(*wrapped), device_id=torch.device("cpu"), use_orig_params=True)
    return model, torch.optim.AdamW(model.parameters(), lr=0.01, foreach=False)


def by_fsdp(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state dicts of FSDP1's own methods: of a new optimizer that has no state."""
    with FSDP.state_dict_type(model, StateDictType.SHARDED_STATE_DICT):
        return {"model": model.state_dict(), "optimizer": FSDP.optim_state_dict(model, optimizer)}


def by_torch(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The same of `get_state_dict`, which makes the optimizer's state first."""
    weights, moments = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": moments}


def put_back(model: nn.Module, optimizer: torch.optim.Optimizer, loaded: dict[str, Any]) -> None:
    """Give loaded state dicts to model and optimizer by FSDP1's own methods."""
    with FSDP.state_dict_type(model, StateDictType.SHARDED_STATE_DICT):
        model.load_state_dict(loaded["model"])
        moments = FSDP.optim_state_dict_to_load(model, optimizer, loaded["optimizer"])
        optimizer.load_state_dict(moments)


def published(folder: Path) -> dict[str, Any]:
    """A postmortem's fix, "load the optimizer's state dict too", with a new optimizer."""
    path = folder / "published"
    model, optimizer = build()
    train(model, optimizer, range(3))
    dcp.save(by_fsdp(model, optimizer), checkpoint_id=path)
    seen: dict[str, Any] = {"on": train(model, optimizer, range(3, 6))}

    model, optimizer = build()
    loaded = by_fsdp(model, optimizer)
    seen["asks for"] = len(loaded["optimizer"]["state"])
    seen["preview"] = str(preview_load(loaded, path))
    dcp.load(loaded, checkpoint_id=path)
    put_back(model, optimizer, loaded)
    seen["loaded"] = len(loaded["optimizer"]["state"])
    seen["found"] = unresumed(path, model, optimizer)
    seen["by the fix"] = train(model, optimizer, range(3, 6))

    seen["refused"] = refused(by_fsdp(*build()), path)
    seen["refused, partial"] = refused(by_fsdp(*build()), path, allow_partial_load=True)

    model, optimizer = build()
    loaded = by_torch(model, optimizer)
    dcp.load(loaded, checkpoint_id=path, planner=StrictLoadPlanner())
    set_state_dict(
        model, optimizer, model_state_dict=loaded["model"], optim_state_dict=loaded["optimizer"]
    )
    seen["by dcpctl"] = train(model, optimizer, range(3, 6))
    return seen


def wrapped(folder: Path) -> dict[str, Any]:
    """An activation checkpoint's wrapper inside FSDP1 and outside of it."""
    seen: dict[str, Any] = {}
    for where in ("inside", "outside"):
        path = folder / f"wrapped {where}"
        model, optimizer = build(where)
        train(model, optimizer, range(3))
        dcp.save(by_torch(model, optimizer), checkpoint_id=path)
        on = train(model, optimizer, range(3, 6))

        model, optimizer = build(where)
        loaded = by_torch(model, optimizer)
        for name, told in (
            ("named", preview_load(loaded, path, model=model)),
            ("alive", preview_load(loaded, path)),
        ):
            seen[f"{where}, {name}"] = (list(told.unrestorable), str(told))
        dcp.load(loaded, checkpoint_id=path, planner=StrictLoadPlanner())
        try:
            set_state_dict(
                model,
                optimizer,
                model_state_dict=loaded["model"],
                optim_state_dict=loaded["optimizer"],
            )
            seen[f"{where}, raised"] = ""
        except RuntimeError as error:
            seen[f"{where}, raised"] = str(error)
            put_back(model, optimizer, loaded)
        seen[f"{where}, equal"] = train(model, optimizer, range(3, 6)) == on
        dist.barrier()
        del model, optimizer, loaded
    return seen
