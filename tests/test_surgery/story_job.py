"""A small training job for the story tests; run under torchrun on CPUs.

All ranks see the same data, and the numbers of ranks are powers of two, so that averaging the
gradients is exact and the losses are the same bits on any of them.

    torchrun ... story_job.py WHAT --dir DIR [--strategy fsdp2] [--wrapped] [--names raw]

WHAT is a list of `train:A-B`, `save:NAME`, `save-old:NAME`, `load:NAME`, `refuse:NAME`, `restart`.
`save-old` leaves out the param-group key that torch 2.7 added, and has the others in the order of
AdamW before it. `refuse` loads and expects an error. Losses and errors go to DIR/log.jsonl.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

WIDTH, VOCABULARY = 32, 64
NEW_KEY = "decoupled_weight_decay"
#: torch.optim.AdamW of 2.0 to 2.6, behind what this job sets itself.
OLD_ORDER = (
    *("lr", "betas", "eps", "amsgrad", "foreach", "maximize"),
    *("capturable", "differentiable", "fused"),
)


class Block(nn.Module):
    """A residual block of two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.w1 = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.w2 = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.w2(torch.nn.functional.gelu(self.w1(self.norm(x))))


class Model(nn.Module):
    """An embedding, blocks, a head, and a buffer that no optimizer knows."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList([Block() for _ in range(2)])
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.register_buffer("inv_freq", torch.linspace(0.1, 1.0, WIDTH))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens) + self.inv_freq
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def build(strategy: str, *, wrapped: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model under a strategy, with or without activation checkpointing, and its AdamW."""
    torch.manual_seed(0)
    model: nn.Module = Model()
    if wrapped:
        model.layers = nn.ModuleList([checkpoint_wrapper(layer) for layer in model.layers])
    if strategy == "fsdp2":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for layer in model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    else:
        from torch.distributed.fsdp import FullyShardedDataParallel
        from torch.distributed.fsdp.wrap import ModuleWrapPolicy

        model = FullyShardedDataParallel(
            model,
            device_id=torch.device("cpu"),
            use_orig_params=True,
            auto_wrap_policy=ModuleWrapPolicy({Block}),
        )
    decay: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (rest if "norm" in name else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    return model, torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95))


def raw_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A state dict by named_parameters(), as many jobs make it: wrapper names leak into it."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    state = {
        names[p]: dict(optimizer.state[p]) for g in optimizer.param_groups for p in g["params"]
    }
    groups = [
        {
            **{key: value for key, value in g.items() if key != "params"},
            "params": [names[p] for p in g["params"]],
        }
        for g in optimizer.param_groups
    ]
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    weights.update(model.named_buffers())
    return {"model": weights, "optimizer": {"state": state, "param_groups": groups}}


class Job:
    """A model in training; each step of the command line is a method."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.restart()

    def restart(self) -> None:
        """Start from the beginning, with new state."""
        self.model, self.optimizer = build(self.options.strategy, wrapped=self.options.wrapped)

    def log(self, **what: Any) -> None:
        """Write a line of the log, on one rank."""
        if dist.get_rank() == 0:
            with (self.options.dir / "log.jsonl").open("a") as file:
                file.write(json.dumps(what) + "\n")

    def train(self, span: str) -> None:
        """Train the steps A to B, B excluded; the data depend on the step alone."""
        first, last = map(int, span.split("-"))
        for step in range(first, last):
            generator = torch.Generator().manual_seed(step)
            tokens = torch.randint(VOCABULARY, (4, 9), generator=generator)
            logits = self.model(tokens[:, :-1])
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.log(step=step, loss=loss.item().hex())

    def state(self) -> dict[str, Any]:
        """The state dict as it is asked for."""
        if self.options.names == "raw":
            if not self.optimizer.state:
                self._fill_state()
            return raw_state(self.model, self.optimizer)
        weights, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": weights, "optimizer": optimizer}

    def _fill_state(self) -> None:
        """Have the optimizer make its state, without a change of the weights."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.optimizer.zero_grad()

    def save(self, name: str, *, old: bool = False) -> None:
        """Save with dcp.save, if asked for as a release before 2.7 would."""
        state = self.state()
        if old:
            groups = state["optimizer"]["param_groups"]
            state["optimizer"]["param_groups"] = [
                {key: group[key] for key in ("weight_decay", *OLD_ORDER, "params")}
                for group in groups
            ]
        dcp.save(state, checkpoint_id=self.options.dir / name)

    def load(self, name: str) -> None:
        """Load with stock dcp.load."""
        state = self.state()
        dcp.load(state, checkpoint_id=self.options.dir / name)
        if self.options.names == "raw":
            for group, saved in zip(
                self.optimizer.param_groups, state["optimizer"]["param_groups"], strict=True
            ):
                group.update({key: saved[key] for key in saved if key != "params"})
        else:
            set_state_dict(
                self.model,
                self.optimizer,
                model_state_dict=state["model"],
                optim_state_dict=state["optimizer"],
            )

    def refuse(self, name: str) -> None:
        """Load what torch refuses, and write down the error (which is no Exception)."""
        try:
            self.load(name)
        except BaseException as error:
            self.log(refused=name, error=str(error))
        else:
            self.log(refused=name, error="")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="+")
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--strategy", default="fsdp2")
    parser.add_argument("--wrapped", action="store_true")
    parser.add_argument("--names", default="clean")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    job = Job(options)
    steps: dict[str, Callable[..., None]] = {
        "train": job.train,
        "save": job.save,
        "save-old": functools.partial(job.save, old=True),
        "load": job.load,
        "refuse": job.refuse,
        "restart": job.restart,
    }
    for what in options.what:
        name, _, argument = what.partition(":")
        steps[name](*([argument] if argument else []))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
