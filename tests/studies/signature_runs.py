"""Real training runs on a CPU that are stopped, and resumed well or badly.

A small language is learnt with AdamW (betas 0.9 and 0.95): the next token follows from the two
before it by a random table. The loss cannot go below the table's entropy, so a run settles into a
regime, as big ones do. At several times the run is saved, and from there it is resumed once for
each `Scenario`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

TOKENS = 32
#: Rows of the log before a resume, after it, and those that the first process still wrote between
#: the save and its end.
BEFORE, AFTER, ABANDONED = 100, 100, 30
BETAS = (0.9, 0.95)


@dataclass(frozen=True)
class Regime:
    """A model and how it is trained.

    Attributes:
        name: its name in the tables.
        lr: learning rate, after a warm-up of 100 steps.
        weight_decay: AdamW's.
        normed: RMS norms around each layer, so that weights have a scale of their own.
        batch: examples in a batch.
        saves: steps after which the run is saved.
        attention: a transformer of two layers instead of an MLP.
        width: of the MLP's hidden layers.
        scenarios: how many of the scenarios are run, from the first on; None for all.
    """

    name: str
    lr: float
    weight_decay: float
    normed: bool = False
    batch: int = 512
    saves: tuple[int, ...] = (400, 1200)
    attention: bool = False
    width: int = 256
    scenarios: int | None = None


#: With the lr of `edge` the model still learns; with a little more it does not. That of `calm` is a
#: fiftieth of it.
REGIMES = (
    Regime("calm", 3e-3, 0.1),
    Regime("normed", 2e-2, 1.0, normed=True),
    Regime("hot", 1e-1, 0.1),
    Regime("edge", 1.5e-1, 0.1),
    Regime("transformer", 1e-2, 0.1, batch=16, attention=True),
    Regime("calm, 8,192", 3e-3, 0.1, batch=8_192, saves=(400,), width=128, scenarios=12),
    Regime("hot, 8,192", 1e-1, 0.1, batch=8_192, saves=(400,), width=128, scenarios=12),
)


class Mlp(nn.Module):
    """Two tokens in, the next one out."""

    def __init__(self, normed: bool, width: int = 256, embedding: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, embedding)
        self.first = nn.Linear(2 * embedding, width)
        self.second = nn.Linear(width, width)
        self.head = nn.Linear(width, TOKENS)
        self.normed = normed

    def norm(self, hidden: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(hidden, hidden.shape[-1:]) if self.normed else hidden

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        pairs = torch.stack([tokens[:, :-1], tokens[:, 1:]], -1)
        hidden = self.norm(self.first(self.norm(self.embed(pairs).flatten(2))))
        hidden = functional.gelu(hidden)
        hidden = self.norm(hidden + self.norm(self.second(hidden)))
        return self.head(functional.gelu(hidden))


class Transformer(nn.Module):
    """A causal transformer of two layers."""

    def __init__(self, width: int = 64, context: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, width)
        self.places = nn.Parameter(torch.randn(context, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True, activation="gelu"
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, TOKENS, bias=False)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        hidden = self.embed(tokens) + self.places[:length]
        return self.head(self.norm(self.layers(hidden, mask=mask, is_causal=True)))[:, 1:]


class Language:
    """Sequences in which each token follows from the two before it, with chance."""

    def __init__(self, seed: int, spread: float = 3.0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.near = torch.randn(TOKENS, TOKENS, generator=draw) * spread
        self.far = torch.randn(TOKENS, TOKENS, generator=draw) * spread

    def batch(self, count: int, length: int, seed: int) -> torch.Tensor:
        """Return (count, length) tokens, the same for the same seed."""
        draw = torch.Generator().manual_seed(seed)
        tokens = torch.randint(0, TOKENS, (count, length), generator=draw)
        for place in range(2, length):
            logits = self.near[tokens[:, place - 1]] + self.far[tokens[:, place - 2]]
            noise = torch.rand(count, TOKENS, generator=draw).clamp_min(1e-9)
            tokens[:, place] = (logits - (-noise.log()).log()).argmax(1)
        return tokens


@dataclass
class Job:
    """A training process: what a checkpoint would hold, and how it goes on.

    Attributes:
        regime: model and hyperparameters.
        seed: of the weights, the language and the order of the data.
        step: steps done.
        language: what the data are drawn from.
        lr_factor: lr in hand / lr of the schedule; it is in the log.
        hidden_factor: the same, and not in the log.
        spoil: for a step, the share of targets that are replaced by chance.
        rewarm: steps of a new warm-up, from `step` on.
        order: of the data; another number is another order.
    """

    regime: Regime
    seed: int
    step: int = 0
    language: Language | None = None
    lr_factor: float = 1.0
    hidden_factor: float = 1.0
    spoil: Callable[[int], float] = lambda step: 0.0
    rewarm: tuple[int, int] = (0, 100)
    order: int = 0
    model: Any = field(init=False)
    optimizer: Any = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        regime = self.regime
        self.model = Transformer() if regime.attention else Mlp(regime.normed, regime.width)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=regime.lr, betas=BETAS, weight_decay=regime.weight_decay
        )
        self.language = Language(1000 + self.seed)

    def train(self, steps: int) -> Iterator[dict[str, float]]:
        """Train on, yielding a row of the log for each step."""
        length = 33 if self.regime.attention else 3
        for _ in range(steps):
            seed = (self.seed * 31 + self.order) * 1_000_003 + self.step
            tokens = self.language.batch(self.regime.batch, length, seed)
            targets = tokens[:, 2:].clone()
            share = self.spoil(self.step)
            if share:
                chosen = torch.rand(targets.shape) < share
                targets[chosen] = torch.randint(0, TOKENS, (int(chosen.sum()),))
            since, warm_up = self.rewarm
            lr = self.regime.lr * self.lr_factor * min(1.0, (self.step - since + 1) / warm_up)
            for group in self.optimizer.param_groups:
                group["lr"] = lr * self.hidden_factor
            logits = self.model(tokens[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            self.optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            yield {
                "step": self.step,
                "loss": loss.item(),
                "grad_norm": norm.item(),
                "lr": lr,
            }
            self.step += 1


def _reset(share: float, *slots: str, step: bool = False) -> Callable[[Job], None]:
    """Forget the state of the last parameters: slots are zeroed, and with `step` the count too."""

    def change(job: Job) -> None:
        parameters = list(job.model.parameters())
        for parameter in parameters[len(parameters) - round(len(parameters) * share) :]:
            state = job.optimizer.state[parameter]
            for slot in (*slots, *(["step"] if step else [])):
                state[slot].zero_()

    return change


def _set(**values: Any) -> Callable[[Job], None]:
    def change(job: Job) -> None:
        for name, value in values.items():
            setattr(job, name, value)

    return change


def _other_language(job: Job) -> None:
    """Two thirds of the tables are as before."""
    other = Language(5000 + job.seed)
    for mine, new in ((job.language.near, other.near), (job.language.far, other.far)):
        mine[::3] = new[::3]


def _spoilt(first: int, last: int, share: float) -> Callable[[Job], None]:
    def change(job: Job) -> None:
        begin = job.step
        job.spoil = lambda step: share if begin + first <= step < begin + last else 0.0

    return change


def _noise(share: float) -> Callable[[Job], None]:
    """Restore weights inexactly: noise of a share of each tensor's own scale."""

    def change(job: Job) -> None:
        with torch.no_grad():
            for parameter in job.model.parameters():
                scale = parameter.square().mean().sqrt()
                parameter += torch.randn_like(parameter) * scale * share

    return change


def _ascend(job: Job) -> None:
    """The last layer's gradient has the wrong sign."""
    last = job.model.head
    last.weight.register_hook(lambda gradient: -gradient)


def _ascend_everywhere(job: Job) -> None:
    for group in job.optimizer.param_groups:
        group["maximize"] = True


MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Scenario:
    """A way to resume.

    Attributes:
        truth: the verdict that is right about it.
        name: what was done.
        change: does it, to a job that was restored exactly.
    """

    truth: str
    name: str
    change: Callable[[Job], None]


SCENARIOS = (
    Scenario("healthy", "exact", lambda job: None),
    Scenario("healthy", "other data order", _set(order=7)),
    Scenario("healthy", "another order", _set(order=8)),
    Scenario("lost-optimizer", "all of it", _reset(1, *MOMENTS, step=True)),
    Scenario(
        "lost-optimizer",
        "all of it, other data order",
        lambda job: (_reset(1, *MOMENTS, step=True)(job), _set(order=7)(job)),
    ),
    Scenario("lost-optimizer", "half", _reset(0.5, *MOMENTS, step=True)),
    Scenario("lost-optimizer", "a quarter", _reset(0.25, *MOMENTS, step=True)),
    Scenario("lost-optimizer", "moments, step kept", _reset(1, *MOMENTS)),
    Scenario("lost-optimizer", "exp_avg_sq", _reset(1, "exp_avg_sq")),
    Scenario("lost-optimizer", "exp_avg", _reset(1, "exp_avg")),
    Scenario("data-change", "a third of the language is new", _other_language),
    Scenario("data-change", "a tenth of the targets is noise", _spoilt(0, 10**9, 0.1)),
    Scenario("lr-change", "lr x 3", _set(lr_factor=3.0)),
    Scenario("lr-change", "lr / 10", _set(lr_factor=0.1)),
    Scenario("lr-change", "lr x 10, not in the log", _set(hidden_factor=10.0)),
    Scenario("divergence", "gradient of the last layer has the wrong sign", _ascend),
    Scenario("divergence", "all gradients have the wrong sign", _ascend_everywhere),
    Scenario("spike", "three bad batches at once", _spoilt(0, 3, 1.0)),
    Scenario("spike", "two bad batches, later", _spoilt(12, 14, 1.0)),
    Scenario("recovered", "weights with 30% noise", _noise(0.3)),
    Scenario("recovered", "bad data for 20 steps", _spoilt(0, 20, 0.4)),
)


def recorded(regime: Regime, seed: int) -> Iterator[dict[str, Any]]:
    """Train one run, and resume it in every way from each of its saves.

    Yields:
        For each save `regime`, `seed`, `resume` (the first step of the second process), `first`
        (the 130 rows of the first process: 100 before the save and 30 after it) and `resumed`: for
        each scenario `truth`, `scenario` and the 100 `rows` of the second process. Rows are columns
        of numbers with four digits.
    """
    job = Job(regime, seed)
    log: list[dict[str, float]] = []
    for save in regime.saves:
        log += list(job.train(save - job.step))
        abandoned = list(copy.deepcopy(job).train(ABANDONED))
        made = {
            "regime": regime.name,
            "seed": seed,
            "resume": save,
            "first": columns([*log[-BEFORE:], *abandoned]),
            "resumed": [],
        }
        for scenario in SCENARIOS[: regime.scenarios]:
            resumed = copy.deepcopy(job)
            torch.manual_seed(seed + save)
            scenario.change(resumed)
            rows = columns(list(resumed.train(AFTER)))
            made["resumed"].append(
                {"truth": scenario.truth, "scenario": scenario.name, "rows": rows}
            )
        yield made


def columns(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Return rows as columns, rounded to four digits."""
    return {
        name: [float(f"{row[name]:.4g}") for row in rows] for name in ("loss", "grad_norm", "lr")
    }
