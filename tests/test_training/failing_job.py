"""No rank waits for one that fails: each step of a load fails on each rank, for each way to shard.

    torchrun ... failing_job.py DIR [failing] [refused]

And for each kind of thing that the planner itself refuses, asked for by each rank alone. Each rank
writes what it saw to DIR/failing{R}.json and DIR/refused{R}.json: "strategy, step or kind, rank" ->
error and seconds.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import CheckpointException

from dcpctl.training import StrictLoadPlanner
from tests.test_training.guard_job import build, state, train

STRATEGIES = ("fsdp2", "fsdp1", "tp")
STEPS = (
    "set_up_planner", "create_local_plan", "create_global_plan", "finish_plan", "load_bytes",
    "resolve_tensor", "commit_tensor",
)  # fmt: skip


class Failing(StrictLoadPlanner):
    """Fails in one step on one rank."""

    def __init__(self, step: str, rank: int) -> None:
        super().__init__()
        if dist.get_rank() == rank:

            def fail(*_: Any, **__: Any) -> Any:
                raise OSError(f"{step} failed")

            setattr(self, step, fail)


def failed(folder: Path) -> dict[str, Any]:
    """Return "strategy, step, rank" -> what this rank was told, and after how many seconds."""
    seen: dict[str, Any] = {}
    for strategy in STRATEGIES:
        path = folder / f"failing-{strategy}"
        model, optimizer = build(strategy)
        train(model, optimizer, range(2))
        dcp.save(state(model, optimizer), checkpoint_id=path)
        for step in STEPS:
            for rank in range(dist.get_world_size()):
                begin = time.monotonic()
                try:
                    planner = Failing(step, rank)
                    dcp.load(state(model, optimizer), checkpoint_id=path, planner=planner)
                    said = ""
                except CheckpointException as error:
                    said = str({number: str(told[0]) for number, told in error.failures.items()})
                seen[f"{strategy}, {step}, {rank}"] = (said, time.monotonic() - begin)
    return seen


def _probe() -> dict[str, Any]:
    return {"floats": torch.ones(4, 4), "text": "a", "more": torch.ones(2)}


def _without_a_weight(asked: dict[str, Any]) -> None:
    del asked["model"][next(fqn for fqn in asked["model"] if fqn.endswith("w1.weight"))]


#: What one rank does to what it asks for.
KINDS: dict[str, Callable[[dict[str, Any]], object]] = {
    "missing": lambda asked: asked["probe"].update(absent=torch.zeros(2)),
    "shape": lambda asked: asked["probe"].update(floats=torch.zeros(3, 3)),
    "int": lambda asked: asked["probe"].update(floats=torch.zeros(4, 4, dtype=torch.int64)),
    "bytes": lambda asked: asked["probe"].update(text=torch.zeros(2)),
    "lossy": lambda asked: asked["probe"].update(floats=torch.zeros(4, 4, dtype=torch.bfloat16)),
    "partial": _without_a_weight,
}


def refused(folder: Path) -> dict[str, Any]:
    """Return "strategy, kind, rank" -> what this rank was told, and after how many seconds.

    After all of them the same processes load what is right, as "strategy, right, all".
    """
    seen: dict[str, Any] = {}
    for strategy in STRATEGIES:
        path = folder / f"refused-{strategy}"
        model, optimizer = build(strategy)
        train(model, optimizer, range(2))
        whole = state(model, optimizer)
        dcp.save({**whole, "probe": _probe()}, checkpoint_id=path)
        cases = [(kind, rank) for kind in KINDS for rank in range(dist.get_world_size())]
        for kind, rank in [*cases, ("right", "all")]:
            asked = {**whole, "model": dict(whole["model"]), "probe": _probe()}
            if rank == dist.get_rank():
                KINDS[kind](asked)
            begin = time.monotonic()
            try:
                planner = StrictLoadPlanner(on_lossy="raise")
                dcp.load(asked, checkpoint_id=path, planner=planner)
                said = {}
            except CheckpointException as error:
                said = {
                    number: f"{type(told[0]).__name__}: {told[0]}"
                    for number, told in error.failures.items()
                }
            seen[f"{strategy}, {kind}, {rank}"] = (said, time.monotonic() - begin)
    return seen


def main() -> None:
    """Try all, and write what this rank saw."""
    folder = Path(sys.argv[1])
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name, act in {"failing": failed, "refused": refused}.items():
        if name in (sys.argv[2:] or [name]):
            seen = act(folder)
            (folder / f"{name}{dist.get_rank()}.json").write_text(json.dumps(seen, indent=1))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
