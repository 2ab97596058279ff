"""What the guards do on several ranks: every case in one run under torchrun, on CPUs.

    torchrun ... guard_job.py DIR

Each rank writes what it saw to DIR/rank{R}.json: case -> result.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.nn.parallel import DistributedDataParallel

from dcpctl.training import StrictLoadPlanner, UnresumedState, assert_resumed

WIDTH = 6
#: One element, so that one of two ranks has no shard of it; of such, torch 2.4 makes no state dict.
SCALE = 1 if torch.__version__ >= "2.6" else 2


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Linear(WIDTH, 2 * WIDTH)
        self.w2 = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.w2(torch.tanh(self.w1(x)))


class Model(nn.Module):
    """Two blocks of one shape, and a parameter that FSDP gives to one rank alone."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.scale = nn.Parameter(torch.ones(SCALE, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x * self.scale.mean()


def wrapped(strategy: str) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = Model()
    if strategy == "plain":
        return model
    if strategy == "ddp":
        return DistributedDataParallel(model)
    if strategy.startswith("fsdp1"):
        return FullyShardedDataParallel(
            model,
            device_id=torch.device("cpu"),
            use_orig_params=strategy == "fsdp1",
            auto_wrap_policy=ModuleWrapPolicy({Block}),
        )
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    if strategy == "tp":
        from torch.distributed.tensor.parallel import (
            ColwiseParallel,
            RowwiseParallel,
            parallelize_module,
        )

        for block in model.blocks:
            parallelize_module(block, mesh, {"w1": ColwiseParallel(), "w2": RowwiseParallel()})
        return model
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def build(strategy: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = wrapped(strategy)
    return model, torch.optim.AdamW(model.parameters(), lr=0.01, foreach=False)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[str]:
    losses = []
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(4, WIDTH, generator=generator)
        loss = model(x).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item().hex())
    return losses


def state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    weights, moments = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": moments, "step": 3}


def restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, **options: Any) -> None:
    asked = state(model, optimizer)
    dcp.load(asked, checkpoint_id=path, planner=StrictLoadPlanner(**options))
    set_state_dict(
        model, optimizer, model_state_dict=asked["model"], optim_state_dict=asked["optimizer"]
    )


def refused(asked: dict[str, Any], path: Path, **options: Any) -> str:
    """Load what shall be refused; return the error, with what kind it is in front."""
    try:
        dcp.load(asked, checkpoint_id=path, planner=StrictLoadPlanner(**options))
    except CheckpointException as error:
        ranks = ",".join(map(str, error.failures))
        first = next(iter(error.failures.values()))[0]
        return f"{type(first).__name__}@{ranks}: {first}"
    return ""


def unresumed(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    try:
        assert_resumed(model, optimizer, path)
    except UnresumedState as error:
        return str(error)
    return ""


def lose_a_moment(optimizer: torch.optim.Optimizer) -> None:
    """Set this rank's part of one parameter's first moment to zero."""
    for slots in optimizer.state.values():
        value = slots.get("exp_avg", torch.zeros(0))
        local = value.to_local() if hasattr(value, "to_local") else value
        if local.numel() > 1:
            local.zero_()
            return


def a_strategy(folder: Path, strategy: str) -> dict[str, Any]:
    """Save, fail as the bug does, restore, and go on as if nothing had been."""
    model, optimizer = build(strategy)
    seen: dict[str, Any] = {"train": train(model, optimizer, range(3))}
    path = folder / strategy
    if strategy == "fsdp2":
        future = dcp.async_save(state(model, optimizer), checkpoint_id=path)
        future.result()
        dist.barrier()
    else:
        dcp.save(state(model, optimizer), checkpoint_id=path)
    seen["on"] = train(model, optimizer, range(3, 6))

    model, optimizer = build(strategy)
    weights = state(model, optimizer)["model"]
    before = [value.detach().clone() for value in model.parameters()]
    seen["model only"] = refused({"model": weights}, path, ignore="step")
    seen["untouched"] = all(map(_equal, before, model.parameters()))
    seen["meant"] = refused({"model": weights}, path, ignore=["step", "optimizer"])

    model, optimizer = build(strategy)
    empty = {**state(model, optimizer), "optimizer": build(strategy)[1].state_dict()}
    seen["empty"] = refused(empty, path)

    model, optimizer = build(strategy)
    seen["new"] = unresumed(path, model, optimizer)
    restore(path, model, optimizer, receipt=folder / f"{strategy}.json")
    seen["restored"] = unresumed(path, model, optimizer)
    if dist.get_rank() == 1:
        lose_a_moment(optimizer)
    seen["half"] = unresumed(path, model, optimizer)
    restore(path, model, optimizer)
    seen["again"] = train(model, optimizer, range(3, 6))
    seen["later"] = unresumed(path, model, optimizer)
    return seen


def _equal(a: Any, b: Any) -> bool:
    a, b = (t.to_local() if hasattr(t, "to_local") else t for t in (a, b))
    return torch.equal(a, b)


def swapped(folder: Path) -> dict[str, Any]:
    """The two blocks' state exchanged, under FSDP2."""
    model, optimizer = build("fsdp2")
    restore(folder / "fsdp2", model, optimizer)
    one, other = (block.w1.weight for block in model.blocks)
    optimizer.state[one], optimizer.state[other] = optimizer.state[other], optimizer.state[one]
    return {"state": unresumed(folder / "fsdp2", model, optimizer)}


def ranks_that_disagree(folder: Path) -> dict[str, Any]:
    """One rank leaves out what the others ask for."""
    seen = {}
    for strategy in ("fsdp2", "ddp"):
        model, optimizer = build(strategy)
        asked = state(model, optimizer)
        if dist.get_rank() == 1:
            del asked["optimizer"]
        seen[strategy] = refused(asked, folder / strategy)
    model, optimizer = build("ddp")
    asked = state(model, optimizer)
    if dist.get_rank() == 1:
        asked["model"]["extra"] = torch.zeros(3)
        asked["model"]["scale"] = torch.zeros(7)
    seen["shape"] = refused(asked, folder / "ddp")
    return seen


def stages(folder: Path) -> dict[str, Any]:
    """Each rank has a block of its own, as pipeline stages do."""
    torch.manual_seed(dist.get_rank())
    block = Block()
    optimizer = torch.optim.AdamW(block.parameters())
    block(torch.randn(2, WIDTH)).sum().backward()
    optimizer.step()
    name = f"blocks.{dist.get_rank()}."

    def asked() -> dict[str, Any]:
        weights, moments = get_state_dict(block, optimizer)
        return {
            "model": {name + key: value for key, value in weights.items()},
            "optimizer": {"state": {name + key: value for key, value in moments["state"].items()}},
        }

    dcp.save(asked(), checkpoint_id=folder / "stages")
    seen = {"all": refused(asked(), folder / "stages", receipt=folder / "stages.json")}
    mine = asked() if dist.get_rank() == 0 else {"model": asked()["model"]}
    seen["one without state"] = refused(mine, folder / "stages")
    return seen


def without_collectives(folder: Path) -> dict[str, Any]:
    """Each rank has metadata of its own."""
    model, optimizer = build("fsdp2")
    seen: dict[str, Any] = {"train": train(model, optimizer, range(3))}
    path = folder / "alone"
    dcp.save(state(model, optimizer), checkpoint_id=path, use_collectives=False)
    dist.barrier()
    seen["on"] = train(model, optimizer, range(3, 6))
    model, optimizer = build("fsdp2")
    seen["model only"] = refused({"model": state(model, optimizer)["model"]}, path, ignore="step")
    dist.barrier()
    restore(path, model, optimizer, receipt=folder / "alone.json")
    seen["again"] = train(model, optimizer, range(3, 6))

    rank = dist.get_rank()  # keys of its own, and more on one rank than on the other
    mine = {f"of{rank}.{number}": torch.ones(2) for number in range(2 + rank)}
    dcp.save(mine, checkpoint_id=folder / "own", use_collectives=False)
    dist.barrier()
    seen["own"] = refused(dict(mine), folder / "own")
    if rank == 1:
        del mine["of1.2"]
    seen["own, less"] = refused(mine, folder / "own")
    return seen


def a_rank_that_fails(folder: Path) -> dict[str, Any]:
    """One rank's own error reaches all, in time."""
    model, optimizer = build("ddp")
    begin = time.monotonic()
    where = folder / "ddp" if dist.get_rank() == 0 else folder / "none"
    try:
        assert_resumed(model, optimizer, where)
        error = ""
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    asked = state(model, optimizer)
    planner = StrictLoadPlanner(receipt=folder / "none" / "receipt.json")
    try:
        dcp.load(asked, checkpoint_id=folder / "ddp", planner=planner)
        receipt = ""
    except CheckpointException as raised:
        receipt = str(raised)
    return {"error": error, "receipt": receipt, "seconds": time.monotonic() - begin}


def legacy(folder: Path) -> dict[str, Any]:
    """A save without the key of 2.7: filled by the planner, or by `dcpctl upgrade`, to the bit."""
    model, optimizer = build("fsdp2")
    seen: dict[str, Any] = {"train": train(model, optimizer, range(3))}
    saved = state(model, optimizer)
    order = ("lr", "betas", "eps", "weight_decay", "amsgrad", "foreach", "maximize")
    order += ("capturable", "differentiable", "fused", "params")
    saved["optimizer"]["param_groups"] = [
        {key: group[key] for key in order} for group in saved["optimizer"]["param_groups"]
    ]
    dcp.save(saved, checkpoint_id=folder / "old")
    seen["on"] = train(model, optimizer, range(3, 6))

    model, optimizer = build("fsdp2")
    seen["refused"] = refused(state(model, optimizer), folder / "old")
    restore(folder / "old", model, optimizer, upgrade=True, receipt=folder / "old.json")
    seen["groups"] = [group.get("decoupled_weight_decay") for group in optimizer.param_groups]
    seen["filled"] = train(model, optimizer, range(3, 6))

    if dist.get_rank() == 0:
        alone = {k: v for k, v in os.environ.items() if "RANK" not in k and "WORLD" not in k}
        command = [sys.executable, "-m", "dcpctl", "upgrade", folder / "old", folder / "new"]
        seen["upgrade"] = subprocess.run(
            command, check=False, env=alone, capture_output=True, text=True
        ).returncode
    dist.barrier()
    model, optimizer = build("fsdp2")
    asked = state(model, optimizer)
    dcp.load(asked, checkpoint_id=folder / "new")
    set_state_dict(
        model, optimizer, model_state_dict=asked["model"], optim_state_dict=asked["optimizer"]
    )
    seen["upgraded"] = train(model, optimizer, range(3, 6))

    model = wrapped("fsdp2")
    asked = state(model, torch.optim.Adam(model.parameters()))
    seen["adam"] = refused(asked, folder / "old", upgrade=True)
    return seen


def examples(folder: Path) -> dict[str, Any]:
    """Every example with the fix, with the bug, and with the bug and no guard: code and output."""
    from dcpctl.training.examples import fsdp1, fsdp2, titan

    seen = {}
    for module in (fsdp2, fsdp1, titan):
        name = module.__name__.rpartition(".")[2]
        for flags in ([], ["--bug"], ["--bug", "--unguarded"]):
            printed = io.StringIO()
            where = folder / "-".join([name, *flags]).replace("---", "-")
            with contextlib.redirect_stdout(printed):
                code = module.main([str(where), *flags])
            text = printed.getvalue().replace(str(where), "run")  # as in docs/guides/guard.md
            seen[" ".join([name, *flags])] = (code, text)
    return seen


def elsewhere(module: str, name: str, folder: Path) -> dict[str, Any]:
    """A case of another module, which builds on this one."""
    case: Callable[[Path], dict[str, Any]] = getattr(
        importlib.import_module(f"tests.test_training.{module}"), name
    )
    return case(folder)


STRATEGIES = ("plain", "ddp", "fsdp1", "fsdp1-flat", "fsdp2", "tp")


def main() -> None:
    """Run every case, and write what this rank saw."""
    folder = Path(sys.argv[1])
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    cases: dict[str, Callable[[Path], dict[str, Any]]] = {
        name: functools.partial(a_strategy, strategy=name) for name in STRATEGIES
    }
    cases |= {
        "swapped": swapped,
        "ranks that disagree": ranks_that_disagree,
        "stages": stages,
        "without collectives": without_collectives,
        "a rank that fails": a_rank_that_fails,
        "legacy": legacy,
        "examples": lambda folder: examples(folder / "examples"),
        "published": lambda folder: elsewhere("fsdp1_cases", "published", folder),
        "wrapped": lambda folder: elsewhere("fsdp1_cases", "wrapped", folder),
        "failing": lambda folder: elsewhere("failing_job", "failed", folder),
    }
    wanted = sys.argv[2:] or list(cases)
    seen: dict[str, Any] = {}
    for name in wanted:
        begin = time.monotonic()
        seen[name] = cases[name](folder)
        if dist.get_rank() == 0:
            print(f"{name}: {time.monotonic() - begin:.1f} s", flush=True)
    (folder / f"rank{dist.get_rank()}.json").write_text(json.dumps(seen, indent=1))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
