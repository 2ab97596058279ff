"""How often `check` finds a restart of the moments that there was not, and misses one there was.

    python -m tests.studies.resets [--seeds 2] [--quick]

Trains small models with AdamW in many healthy ways, and from some of their steps on with moments of
zero while `step` goes on; k steps later they are compared with what they were before. Every pair of
saves is judged by the code that the rules use.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import nn

from dcpctl.check.estimate import Estimate, Tally, judge, reach
from tests.studies.runs import WAYS, Dense, Language, Run, Way

Saved = dict[str, dict[str, torch.Tensor]]

#: beta2 -> steps of a run, steps between its saves, steps since the resets, and longer ones still.
PLANS = {
    0.95: (500, (5, 10, 20, 40, 60, 100, 250), (2, 5, 10, 20, 30, 40, 60, 100), (200, 500)),
    0.999: (1500, (10, 50, 250, 500, 750), (2, 10, 50, 100, 250, 500, 750), (1500, 3000)),
}
#: Steps between an earlier save and a reset that decay cannot prove: this often what it reaches.
FAR = 2


@dataclass(frozen=True)
class Judged:
    """One pair of saves.

    Attributes:
        way: how the run was trained.
        model: the model's class.
        beta2: of AdamW.
        between: steps between the saves.
        since: steps since the reset; None where there was none.
        said: what was found.
    """

    way: str
    model: str
    beta2: float
    between: int
    since: int | None
    said: Estimate | None


def compare(before: Saved, after: Saved, steps: int, decay: float, age: int) -> Estimate | None:
    """Judge two states of an optimizer as the rules judge two saves."""
    tallies = []
    for name, new in after.items():
        old = before.get(name)
        for slot in ("exp_avg_sq", "max_exp_avg_sq"):
            if old is None or slot not in old:
                continue
            dtype = str(new[slot].dtype).removeprefix("torch.")
            kept = decay if slot == "exp_avg_sq" else 1.0
            tally = Tally(name, slot, name, kept, steps, dtype)
            arrays = [
                state[key].double().numpy() for key in (slot, "exp_avg") for state in (old, new)
            ]
            tally.add(
                arrays[0], arrays[1], (arrays[2], arrays[3]) if slot == "exp_avg_sq" else None
            )
            tallies.append(tally)
    return judge(tallies, age)


def healthy(
    way: Way, model: type[nn.Module], beta2: float, seed: int, gaps: Sequence[int], steps: int
) -> Iterator[Judged]:
    """Judge pairs of saves of a run in which nothing was reset."""
    run = Run(way, model, beta2, steps, seed)
    starts = range(min(gaps), steps, max(min(gaps), steps // 20))
    wanted = sorted({s for a in starts for s in (a, *(a + gap for gap in gaps)) if s <= steps})
    saves, betas = {}, {}
    for step in wanted:
        run.train(step)
        saves[step] = run.saved()
        betas[step] = run.optimizer.param_groups[0]["betas"][1]
    for start in starts:
        for gap in gaps:
            if start + gap in saves:
                decay = min(betas[start], betas[start + gap])
                said = compare(saves[start], saves[start + gap], gap, decay, start)
                yield Judged(way.name, model.__name__, beta2, gap, None, said)


def broken(
    way: Way,
    model: type[nn.Module],
    beta2: float,
    seed: int,
    since: Sequence[int],
    steps: int,
    parts: Sequence[float] = (0.3, 0.6, 0.9),
) -> Iterator[Judged]:
    """Judge saves after resets that happened at the earlier save, at these parts of the run."""
    run = Run(way, model, beta2, steps, seed)
    for part in parts:
        at = round(part * steps)
        run.train(at)
        yield from _after(run, at, beta2, since)


def far(
    way: Way, model: type[nn.Module], beta2: float, seed: int, since: Sequence[int]
) -> Iterator[Judged]:
    """Judge saves after a reset that happened long after the earlier save."""
    distance = FAR * (reach(beta2) or 0)
    start = distance // 4
    run = Run(way, model, beta2, start + distance, seed)
    run.train(start)
    yield from _after(run, start + distance, beta2, since)


def _after(run: Run, at: int, beta2: float, since: Sequence[int]) -> Iterator[Judged]:
    """Reset a run at a step, and judge its saves then against the one now."""
    start, old = run.step, run.saved()
    run.train(at)
    other = run.reset()
    for k in since:
        other.train(at + k)
        said = compare(old, other.saved(), at + k - start, beta2, start)
        name = type(run.model).__name__
        yield Judged(run.way.name, name, beta2, at + k - start, k, said)


def study(seeds: int, *, quick: bool = False) -> list[Judged]:
    """Train and judge everything; `quick` takes short runs of a few ways."""
    found: list[Judged] = []
    torch.set_num_threads(1)
    for beta2, (steps, gaps, since, longer) in PLANS.items():
        length = steps // 3 if quick else steps
        gaps = [gap for gap in gaps if gap < length / 2]
        since = [k for k in since if k < length]
        for index, way in enumerate(WAYS):
            for seed, model in product(range(1, seeds + 1), (Dense, Language)):
                if quick and (index + (model is Dense)) % 4:
                    continue
                found += healthy(way, model, beta2, seed, gaps, length)
                if index < 4:
                    found += broken(way, model, beta2, seed, since, length)
                if index == 0 and not quick:
                    found += broken(way, model, beta2, seed, longer, length, (0.6, 0.9))
                    found += far(way, model, beta2, seed, since)
    return found


def report(found: Sequence[Judged]) -> None:
    """Print both error rates, as docs/studies/resets.md quotes them."""
    well = [judged for judged in found if judged.since is None]
    print("| healthy runs | pairs of saves | errors | warnings |\n|---|---:|---:|---:|")
    for name in [*dict.fromkeys(judged.way for judged in well), "all"]:
        said = [judged.said for judged in well if name in ("all", judged.way)]
        errors = sum(estimate is not None and estimate.proved for estimate in said)
        warnings = sum(estimate is not None and not estimate.proved for estimate in said)
        print(f"| {name} | {len(said):,} | {errors} | {warnings} |")
    ill = [judged for judged in found if judged.since is not None]
    for title, near in (("reset at the save before", True), ("long after it", False)):
        print(f"\n| {title}: beta2 | k | gradients everywhere | rare words | k in the range |")
        print("|---|---:|---:|---:|---:|")
        of = [judged for judged in ill if (judged.between == judged.since) == near]
        for key in sorted({(judged.beta2, judged.since or 0) for judged in of}):
            _row(key, [judged for judged in of if (judged.beta2, judged.since) == key])


def _row(key: tuple[float, int], cases: Sequence[Judged]) -> None:
    shares = []
    for model in (Dense.__name__, Language.__name__):
        said = [judged.said for judged in cases if judged.model == model]
        errors = sum(estimate is not None and estimate.proved for estimate in said)
        hints = sum(estimate is not None and not estimate.proved for estimate in said)
        shares.append(f"{errors} of {len(said)}" + (f", {hints} hinted" if hints else ""))
    told = [judged.said.since for judged in cases if judged.said and judged.said.since]
    within = sum(least <= key[1] <= most for _, least, most in told)
    print(f"| {key[0]} | {key[1]} | {shares[0]} | {shares[1]} | {within} of {len(told)} |")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    report(study(options.seeds, quick=options.quick))


if __name__ == "__main__":
    main()
