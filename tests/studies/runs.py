"""Small runs that are really trained, in the many ways in which healthy runs differ."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

WORDS, WIDTH, TIME = 300, 16, 10


class Dense(nn.Module):
    """A classifier in which every parameter has a gradient in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(20, 40)
        self.norm = nn.LayerNorm(40)
        self.second = nn.Linear(40, 40)
        self.last = nn.Linear(40, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(functional.relu(self.first(x)))
        return self.last(functional.relu(self.second(x)))


class Language(nn.Module):
    """A model of rare and frequent words: most rows of its embedding rest in most steps."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 40, bias=False)
        self.down = nn.Linear(40, WIDTH, bias=False)
        self.head = nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x = self.embedding(words)
        x = x + x.cumsum(1) / torch.arange(1, words.shape[1] + 1)[:, None]
        return self.head(x + self.down(functional.gelu(self.up(self.norm(x)))))


@dataclass(frozen=True)
class Way:
    """A way to train.

    Attributes:
        name: what is special about it.
        rate: the factor of the learning rate at a step, of so many.
        clip: gradients are clipped to norm 1.
        dtype: of parameters and moments.
        options: more options of AdamW.
        events: part of the run that has passed -> what is done to it then.
        each: what is done before every step.
        scheduler: of torch, for so many steps; it sets the rate then.
        micro: batches whose gradients are summed for a step.
    """

    name: str
    rate: Callable[[int, int], float] = lambda step, steps: 1.0
    clip: bool = True
    dtype: torch.dtype = torch.float32
    options: dict[str, Any] = field(default_factory=dict)
    events: dict[float, Callable[[Run], None]] = field(default_factory=dict)
    each: Callable[[Run], None] | None = None
    scheduler: Callable[[torch.optim.Optimizer, int], Any] | None = None
    micro: int = 1


class Run:
    """A run of one of the Adams on a model of one kind.

    Args:
        way: how to train.
        model: `Dense` or `Language`.
        beta2: of the optimizer.
        steps: how long it shall be.
        seed: of weights and data.
        optimizer: its class.
        beta1: of it.
    """

    def __init__(
        self,
        way: Way,
        model: type[nn.Module],
        beta2: float,
        steps: int,
        seed: int,
        optimizer: type[torch.optim.Optimizer] = torch.optim.AdamW,
        beta1: float = 0.9,
    ) -> None:
        torch.manual_seed(seed)
        self.way, self.steps, self.seed, self.step = way, steps, seed, 0
        self.batch, self.scale, self.noise, self.lr = 16, 1.0, 0.1, 3e-3
        self.model = model().to(way.dtype)
        self.teacher = Dense()
        self.next_word = torch.randperm(WORDS)
        self.frequency = 1 / torch.arange(1, WORDS + 1) ** 1.1
        made: Any = optimizer
        self.optimizer: torch.optim.Optimizer = made(
            self.model.parameters(), lr=self.lr, betas=(beta1, beta2), **way.options
        )
        self.scheduler = way.scheduler(self.optimizer, steps) if way.scheduler else None

    def train(self, until: int) -> None:
        """Go on to a step; what a step sees depends on seed and step alone."""
        events = {round(part * self.steps): event for part, event in self.way.events.items()}
        while self.step < until:
            if self.step in events:
                events[self.step](self)
            if self.way.each is not None:
                self.way.each(self)
            if self.scheduler is None:
                for group in self.optimizer.param_groups:
                    group["lr"] = self.lr * self.way.rate(self.step, self.steps)
            self.optimizer.zero_grad()
            for micro in range(self.way.micro):
                (self._loss(micro) * self.scale).backward()
            if self.way.clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
            self.step += 1

    def _loss(self, micro: int) -> torch.Tensor:
        number = self.seed * 1_000_003 + self.step + micro * 15_485_863
        generator = torch.Generator().manual_seed(number)
        if isinstance(self.model, Dense):
            x = torch.randn(self.batch, 20, generator=generator)
            wrong = torch.rand(self.batch, generator=generator) < self.noise
            with torch.no_grad():
                right = self.teacher(x).argmax(1)
            drawn = torch.randint(10, (self.batch,), generator=generator)
            logits = self.model(x.to(self.way.dtype)).float()
            return functional.cross_entropy(logits, torch.where(wrong, drawn, right))
        count = self.batch // 4 * TIME
        words = torch.multinomial(self.frequency, count, replacement=True, generator=generator)
        words = words.view(-1, TIME)
        follows = torch.rand(words.shape, generator=generator) > self.noise + 0.3
        after = torch.where(follows, self.next_word[words], words)
        logits = self.model(words).float()
        return functional.cross_entropy(logits.flatten(0, 1), after.flatten())

    def reset(self) -> Run:
        """Return the run as it goes on when `step` was restored, and the moments were not."""
        other = copy.copy(self)
        other.model = copy.deepcopy(self.model)
        other.optimizer = torch.optim.AdamW(
            other.model.parameters(),
            lr=self.lr,
            betas=self.optimizer.param_groups[0]["betas"],
            **self.way.options,
        )
        for old, new in zip(self.model.parameters(), other.model.parameters(), strict=True):
            new.requires_grad_(old.requires_grad)
            if old in self.optimizer.state:
                state = self.optimizer.state[old]
                other.optimizer.state[new] = {
                    key: value.clone() if key == "step" else torch.zeros_like(value)
                    for key, value in state.items()
                }
        return other

    def saved(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return a copy of the optimizer's state by parameter names."""
        state = self.optimizer.state
        return {
            name: {key: value.clone() for key, value in state[parameter].items()}
            for name, parameter in self.model.named_parameters()
            if parameter in state
        }


def _warm(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / (0.2 * steps))


def _cosine(step: int, steps: int) -> float:
    return _warm(step, steps) * (1 + math.cos(math.pi * step / steps)) / 2


def _set(**values: Any) -> Callable[[Run], None]:
    """An event that sets attributes of the run."""

    def event(run: Run) -> None:
        for key, value in values.items():
            setattr(run, key, value)

    return event


def _betas(beta1: float | None, beta2: float | None) -> Callable[[Run], None]:
    """An event that changes a beta."""

    def event(run: Run) -> None:
        group = run.optimizer.param_groups[0]
        group["betas"] = (beta1 or group["betas"][0], beta2 or group["betas"][1])

    return event


def _frozen(frozen: bool) -> Callable[[Run], None]:
    """An event that freezes or frees one of the middle matrices."""

    def event(run: Run) -> None:
        list(run.model.parameters())[2].requires_grad_(not frozen)

    return event


#: Healthy runs.
WAYS = (
    Way("constant rate"),
    Way("warm-up, then constant", _warm),
    Way("warm-up and cosine to zero", _cosine),
    Way("gradients not clipped", clip=False),
    Way("loss 10 times larger at half", clip=False, events={0.5: _set(scale=10.0)}),
    Way("loss 10 times smaller at half", clip=False, events={0.5: _set(scale=0.1)}),
    Way(
        "loss 100 times larger for 2 % of the run",
        clip=False,
        events={0.5: _set(scale=100.0), 0.52: _set(scale=1.0)},
    ),
    Way("batch 4 times larger at half", events={0.5: _set(batch=64)}),
    Way("other data at half", events={0.5: _set(noise=0.5, seed=99)}),
    Way("rate 10 times smaller at half", events={0.5: _set(lr=3e-4)}),
    Way("a layer is frozen, and freed at half", events={0.0: _frozen(True), 0.5: _frozen(False)}),
    Way("a layer is frozen at half", events={0.5: _frozen(True)}),
    Way("beta1 cycles", events={0.3: _betas(0.85, None), 0.6: _betas(0.95, None)}),
    Way("beta2 becomes 0.99 at half", events={0.5: _betas(None, 0.99)}),
    Way("AMSGrad", options={"amsgrad": True}),
    Way("bfloat16 weights and moments", dtype=torch.bfloat16),
)
