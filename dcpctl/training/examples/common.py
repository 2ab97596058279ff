"""What the examples have in common: a small model, data, and the story around the load."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint import CheckpointException, DefaultLoadPlanner

from dcpctl.training import StrictLoadPlanner, UnresumedState, assert_resumed

WIDTH, VOCABULARY = 32, 64
SAVED_AT, LAST = 6, 12


class Block(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.w1 = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.w2 = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` (batch, tokens, WIDTH) with something added."""
        return x + self.w2(torch.nn.functional.gelu(self.w1(self.norm(x))))


class Model(nn.Module):
    """An embedding, two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits of tokens: (batch, tokens) to (batch, tokens, VOCABULARY)."""
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return torch.as_tensor(self.head(x))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    """Train, on data that depend on the step alone, and return each step's loss."""
    losses = []
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(VOCABULARY, (4, 9), generator=generator)
        logits = model(tokens[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


Build = Callable[[], tuple[nn.Module, torch.optim.Optimizer]]
Save = Callable[[nn.Module, torch.optim.Optimizer, Path], None]
#: (model, optimizer, checkpoint, planner, with the bug)
Load = Callable[[nn.Module, torch.optim.Optimizer, Path, DefaultLoadPlanner, bool], None]


def tell(
    build: Build,
    save: Save,
    load: Load,
    arguments: Sequence[str] | None = None,
    *,
    upgrade: bool = False,
) -> int:
    """Train, save, go on; begin again from the save, and compare the losses.

    Args:
        build: makes the model and its optimizer.
        save: writes a checkpoint.
        load: reads it.
        arguments: of the command line; those of the process if None.
        upgrade: as of `StrictLoadPlanner`.

    Returns:
        The exit code: 0 if the run that was resumed is the one that was not interrupted.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="where the checkpoint is written")
    parser.add_argument("--bug", action="store_true", help="load without the optimizer")
    parser.add_argument("--unguarded", action="store_true", help="load with torch's own planner")
    options = parser.parse_args(arguments)
    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("gloo")
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        planner = StrictLoadPlanner(upgrade=upgrade, receipt=options.folder / "receipt.json")
        if options.unguarded:
            planner = DefaultLoadPlanner()
        return _story(build, save, load, planner, options)
    finally:
        if ours:
            dist.destroy_process_group()


def _story(
    build: Build,
    save: Save,
    load: Load,
    planner: DefaultLoadPlanner,
    options: argparse.Namespace,
) -> int:
    model, optimizer = build()
    train(model, optimizer, range(SAVED_AT))
    checkpoint = options.folder / f"step-{SAVED_AT}"
    save(model, optimizer, checkpoint)
    uninterrupted = train(model, optimizer, range(SAVED_AT, LAST))

    model, optimizer = build()
    try:
        load(model, optimizer, checkpoint, planner, options.bug)
    except CheckpointException as error:
        say(f"refused by StrictLoadPlanner:\n{next(iter(error.failures.values()))[0]}")
        return 1
    try:
        assert_resumed(model, optimizer, checkpoint)
    except UnresumedState as error:
        say(f"found by assert_resumed:\n{error}")
        return 1
    resumed = train(model, optimizer, range(SAVED_AT, LAST))
    same = resumed == uninterrupted
    say(f"steps {SAVED_AT} to {LAST - 1} after the resume: losses {'equal' if same else 'DIFFER'}")
    return 0 if same else 1


def say(text: str) -> None:
    """Print on one rank."""
    if dist.get_rank() == 0:
        print(text, flush=True)
