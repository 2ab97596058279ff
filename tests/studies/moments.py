"""How often `check` finds moments that contradict each other, and whether healthy ones ever do.

    python -m tests.studies.moments [--seeds 1] [--quick]

Trains small models with five of torch's optimizers in three dtypes and in many healthy ways, betas
that schedules change among them, and judges their moments by the code that the rule uses, early,
late and right after every change: alone, and with the save before. Then one shard of the moments,
half of a parameter's rows, is damaged in eight ways.
"""

from __future__ import annotations

import argparse
import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from dcpctl.check.moment_bound import MAXIMUM, SQUARES, betas_of, memory, precision_of
from dcpctl.check.moment_evidence import Evidence, terms_of
from tests.studies.runs import Dense, Language, Run, Way, _betas, _cosine, _frozen, _set

State = dict[str, torch.Tensor]
#: The step of a save, and its param group.
Save = tuple[int, dict[str, Any]]

OPTIMIZERS: tuple[type[torch.optim.Optimizer], ...] = (
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
)
#: Each with the eps that keeps a step from 0 / 0 there.
DTYPES = {torch.float32: 1e-8, torch.bfloat16: 1e-8, torch.float16: 1e-4}
STEPS = 160
#: Steps at which a healthy run is judged: early, around its half, where events are, and late.
SAVES = (1, 2, 3, 5, 10, 40, 79, 80, 81, 82, 83, 85, 90, 110, 160)
#: Steps at which moments are damaged.
DAMAGED = (40, 160)


def _each_beta1(run: Run) -> None:
    """Beta1 between 0.85 and 0.95, another one in every step, and nobody writes it down."""
    _betas(0.9 + 0.05 * math.sin(run.step / 6), None)(run)


def _growing_beta2(run: Run) -> None:
    """Beta2 from 0.9 to 0.999."""
    _betas(None, 0.999 - 0.099 * max(0.0, 1 - run.step / run.steps))(run)


def _explode(run: Run) -> None:
    """Gradients that grow by b2 / b1 a step in the second half: they attain the bound."""
    if run.step >= run.steps // 2:
        b1, b2 = run.optimizer.param_groups[0]["betas"]
        run.scale *= b2 / b1


def _one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> Any:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 10)


def _cyclic(optimizer: torch.optim.Optimizer, steps: int) -> Any:
    return torch.optim.lr_scheduler.CyclicLR(optimizer, 1e-4, 3e-3, steps // 8)


#: name, beta1, beta2, way.
WAYS = (
    (0.9, 0.999, Way("constant rate")),
    (0.9, 0.95, Way("warm-up and cosine", _cosine)),
    (0.9, 0.99, Way("gradients not clipped", clip=False)),
    (0.95, 0.95, Way("beta1 = beta2")),
    (0.95, 0.9, Way("beta1 > beta2")),
    (0.0, 0.99, Way("beta1 = 0")),
    (0.9, 0.999, Way("accumulated over 4 batches", micro=4)),
    (
        0.9,
        0.999,
        Way(
            "loss 100 times larger for 2 % of the run",
            clip=False,
            events={0.5: _set(scale=100.0), 0.52: _set(scale=1.0)},
        ),
    ),
    (0.9, 0.999, Way("gradients that attain the bound", clip=False, each=_explode)),
    (0.9, 0.999, Way("gradients of 1e-22", clip=False, events={0.0: _set(scale=1e-22)})),
    (
        0.9,
        0.95,
        Way("layer frozen, and freed at half", events={0.0: _frozen(True), 0.5: _frozen(False)}),
    ),
    (0.9, 0.999, Way("weight decay of 0.1", options={"weight_decay": 0.1})),
    (0.9, 0.999, Way("OneCycleLR", scheduler=_one_cycle)),
    (0.9, 0.999, Way("CyclicLR", scheduler=_cyclic)),
    (0.9, 0.999, Way("beta1 between 0.85 and 0.95, each step", each=_each_beta1)),
    (0.9, 0.999, Way("beta1 0.8 to 0.95 at half", events={0.5: _betas(0.95, None)})),
    (0.9, 0.999, Way("beta2 from 0.9 to 0.999, each step", each=_growing_beta2)),
    (0.9, 0.999, Way("beta2 0.999 to 0.99 at half", events={0.5: _betas(None, 0.99)})),
)


@dataclass(frozen=True)
class Judged:
    """One chunk of moments.

    Attributes:
        way: how the run was trained.
        optimizer: its class.
        dtype: of the moments.
        damage: what was done to them; empty if nothing.
        found: whether they contradict each other, without a save before: "error", "warning" or "".
        found_since: likewise with one.
        numbers: of each moment.
    """

    way: str
    optimizer: str
    dtype: str
    damage: str
    found: str
    found_since: str
    numbers: int


def judge(state: State, *groups: Mapping[str, object], apart: float = 0) -> str:
    """Judge the moments of one parameter, or of a part of it, as the rule judges a chunk.

    Args:
        state: of the parameter.
        groups: values of its param group, and of the one in the save before if there is one.
        apart: steps between the two.
    """
    betas = betas_of(groups)
    second = _second(state)
    dtype = str(state[second].dtype).removeprefix("torch.")
    assert betas is not None and precision_of(dtype) is not None
    form = MAXIMUM if second == "exp_inf" else SQUARES
    steady = len(groups) > 1 and betas == betas_of(groups[:1]) and apart >= memory(betas, form)
    floor = 2.0 * float(str(groups[0]["eps"])) if form == MAXIMUM else 0.0
    steps = float(state["step"])
    evidence = Evidence(terms_of(form, betas, steps, dtype, steady=steady, floor=floor))
    largest = state.get("max_exp_avg_sq")
    evidence.add(
        _numbers(state["exp_avg"]),
        _numbers(state[second]),
        None if largest is None else _numbers(largest),
    )
    return "error" if evidence.certain else "warning" if evidence.contradicts else ""


def _numbers(tensor: torch.Tensor) -> Any:
    """As NumPy; bfloat16 as the float32 that it is the beginning of."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _shard(state: State) -> State:
    """The second half of the rows, as a rank holds it."""
    return {
        slot: tensor.clone() if tensor.ndim == 0 else tensor[len(tensor) // 2 :].clone()
        for slot, tensor in state.items()
    }


def _second(state: State) -> str:
    return "exp_inf" if "exp_inf" in state else "exp_avg_sq"


def _zero(which: str) -> Callable[[State, State, State, torch.Generator], State]:
    def damage(state: State, _old: State, _other: State, _random: torch.Generator) -> State:
        slot = which or _second(state)
        return state | {slot: torch.zeros_like(state[slot])}

    return damage


def _swap(state: State, _old: State, _other: State, _random: torch.Generator) -> State:
    second = _second(state)
    return state | {"exp_avg": state[second], second: state["exp_avg"]}


def _take(which: str, *, old: bool) -> Callable[[State, State, State, torch.Generator], State]:
    """One of the moments from an older save, or from another parameter of so many numbers."""

    def damage(state: State, older: State, other: State, _random: torch.Generator) -> State:
        slot = which or _second(state)
        source = (older if old else other).get(slot, torch.empty(0)).flatten()
        taken = source[: state[slot].numel()] if len(source) else source
        if len(taken) < state[slot].numel():
            return {}
        return state | {slot: taken.reshape(state[slot].shape)}

    return damage


def _bit(state: State, _old: State, _other: State, random: torch.Generator) -> State:
    """One bit of the exponent of one number, of either moment."""
    slot = ("exp_avg", _second(state))[int(torch.randint(2, (1,), generator=random))]
    tensor = state[slot].clone()
    whole = {4: torch.int32, 2: torch.int16}[tensor.element_size()]
    low, high = {torch.float32: (23, 30), torch.bfloat16: (7, 14), torch.float16: (10, 14)}[
        tensor.dtype
    ]
    bits = tensor.view(whole).reshape(-1)
    at = int(torch.randint(len(bits), (1,), generator=random))
    bits[at] ^= 1 << int(torch.randint(low, high + 1, (1,), generator=random))
    return state | {slot: tensor}


def _noise(state: State, _old: State, _other: State, random: torch.Generator) -> State:
    """64 random bytes in the second moment."""
    slot = _second(state)
    tensor = state[slot].clone()
    raw = tensor.view(torch.uint8).reshape(-1)
    count = min(64, len(raw))
    raw[:count] = torch.randint(256, (count,), generator=random).to(torch.uint8)
    return state | {slot: tensor}


#: Damages of a shard: of its state, the same shard 40 steps before and another parameter's.
DAMAGES: dict[str, Callable[[State, State, State, torch.Generator], State]] = {
    "second moment zeroed": _zero(""),
    "first moment zeroed": _zero("exp_avg"),
    "moments swapped": _swap,
    "second moment of another parameter": _take("", old=False),
    "second moment of the first save": _take("", old=True),
    "one bit of an exponent": _bit,
    "64 random bytes": _noise,
}
#: Damage that training goes on from, so many steps.
RESET, SINCE = "second moment reset 3 steps before", 3


def healthy(run: Run, saves: Sequence[int]) -> Iterator[Judged]:
    """Judge a run in which nothing is wrong, at these steps."""
    before = 0, dict(run.optimizer.param_groups[0])
    for step in saves:
        run.train(step)
        now = step, dict(run.optimizer.param_groups[0])
        for state in run.saved().values():
            yield _judged(run, state, "", now, before)
        before = now


def damaged(run: Run, at: Sequence[int]) -> Iterator[Judged]:
    """Damage one shard of each parameter of a run at these steps, in each way."""
    random = torch.Generator().manual_seed(run.seed)
    run.train(min(10, at[0] // 2))
    first = {name: _shard(state) for name, state in run.saved().items()}
    before = run.step, dict(run.optimizer.param_groups[0])
    for step in at:
        run.train(step)
        now = step, dict(run.optimizer.param_groups[0])
        shards = {name: _shard(state) for name, state in run.saved().items()}
        names = list(shards)
        for index, name in enumerate(names):
            other = shards[names[index - 1]]
            for damage, harm in DAMAGES.items():
                if harmed := harm(shards[name], first.get(name, {}), other, random):
                    yield _judged(run, harmed, damage, now, before)
        reset = _reset(run, step + SINCE)
        for state in reset.saved().values():
            after = reset.step, dict(reset.optimizer.param_groups[0])
            yield _judged(run, _shard(state), RESET, after, before)
        before = now


def _reset(run: Run, until: int) -> Run:
    """A copy of a run that goes on without its second moments."""
    other = copy.deepcopy(run)
    warnings.filterwarnings("ignore", "Seems like `optimizer.step")  # a copied scheduler's doubt
    for state in other.optimizer.state.values():
        state[_second(state)].zero_()
    other.train(until)
    return other


def _judged(run: Run, state: State, damage: str, now: Save, before: Save) -> Judged:
    return Judged(
        run.way.name,
        type(run.optimizer).__name__,
        str(run.way.dtype).removeprefix("torch."),
        damage,
        judge(state, now[1]),
        judge(state, now[1], before[1], apart=now[0] - before[0]),
        state["exp_avg"].numel(),
    )


def runs(seeds: int, steps: int, *, every: int = 1) -> Iterator[Run]:
    """Every run of the study; of `every` so many, one."""
    ways = [(b1, b2, way) for b1, b2, way in WAYS]
    ways.append((0.9, 0.999, Way("AMSGrad", options={"amsgrad": True})))
    cases = product(range(1, seeds + 1), OPTIMIZERS, DTYPES.items(), enumerate(ways))
    for number, (seed, optimizer, (dtype, eps), (index, (b1, b2, way))) in enumerate(cases):
        if number % every or ("amsgrad" in way.options and not _has_amsgrad(optimizer)):
            continue
        made = copy.copy(way)
        object.__setattr__(made, "dtype", dtype)
        object.__setattr__(made, "options", {**way.options, "eps": eps})
        model = (Dense, Language)[(index + seed) % 2]
        yield Run(made, model, b2, steps, seed, optimizer, b1)


def _has_amsgrad(optimizer: type[torch.optim.Optimizer]) -> bool:
    return optimizer in (torch.optim.Adam, torch.optim.AdamW)


def study(seeds: int, *, quick: bool = False) -> tuple[int, list[Judged]]:
    """Train and judge everything; return the number of trainings and what was found."""
    torch.set_num_threads(1)
    found: list[Judged] = []
    count = 0
    for run in runs(seeds, STEPS, every=23 if quick else 1):
        count += 1
        found += healthy(copy.deepcopy(run), SAVES)
        found += damaged(run, DAMAGED)
    return count, found


def report(count: int, found: Sequence[Judged]) -> None:
    """Print both error rates, as docs/studies/moments.md quotes them."""
    well = [judged for judged in found if not judged.damage]
    numbers = sum(judged.numbers for judged in well)
    print(f"{count:,} trainings, {len(well):,} pairs of moments ({numbers:,} numbers)\n")
    print("| healthy | alone | with the save before |\n|---|---:|---:|")
    for grade in ("error", "warning"):
        alone = [judged for judged in well if judged.found == grade]
        since = [judged for judged in well if judged.found_since == grade]
        print(f"| {grade}s | {len(alone):,} | {len(since):,} |")
        for judged in dict.fromkeys((j.way, j.optimizer, j.dtype) for j in (*alone, *since)):
            print(f"  {' '.join(judged)}")
    names = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
    print("\n| damage | " + " | ".join(names) + " |\n|---|" + "---:|" * len(names))
    for damage in dict.fromkeys(judged.damage for judged in found if judged.damage):
        cells = []
        for dtype in names:
            said = [judged for judged in found if (judged.damage, judged.dtype) == (damage, dtype)]
            counts = (
                sum(judged.found == "error" for judged in said),
                sum(bool(judged.found) for judged in said),
                sum(judged.found_since == "error" for judged in said),
            )
            shares = " / ".join(f"{100 * number / max(1, len(said)):.0f}" for number in counts)
            cells.append(f"{shares} % of {len(said):,}")
        print(f"| {damage} | {' | '.join(cells)} |")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    report(*study(options.seeds, quick=options.quick))


if __name__ == "__main__":
    main()
