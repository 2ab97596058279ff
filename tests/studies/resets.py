"""How often `check` finds a restart of the moments that there was not, and misses one there was.

    python -m tests.studies.resets [--seeds 2] [--quick]

Trains small models with AdamW in many healthy ways, and from several of their steps on with
moments of zero while `step` goes on. Each pair of saves is judged by the code that the rules use.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from dcpctl.check.estimate import Estimate, Tally, judge, reach
from tests.studies.runs import WAYS, Dense, Language, Run, Way

Saved = dict[str, dict[str, torch.Tensor]]

#: beta2 -> steps of a run, steps between its saves, and k of the resets.
PLANS = {
    0.95: (500, (5, 10, 20, 40, 60, 100, 250), (2, 5, 10, 20, 30, 40, 60, 100)),
    0.999: (1500, (10, 50, 250, 500, 750), (2, 10, 50, 100, 250, 500, 750)),
}
#: Steps between the earlier save and a reset that lies beyond what decay can prove, in reaches.
FAR = 4


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
    way: Way, model: type[nn.Module], beta2: float, seed: int, since: Sequence[int], steps: int
) -> Iterator[Judged]:
    """Judge saves after resets: at the earlier save, and long after it."""
    run = Run(way, model, beta2, steps, seed)
    far = FAR * (reach(beta2) or 0)
    for part in (0.3, 0.6, 0.9):
        at = round(part * steps)
        old = {at: None, at - far: None} if at > far else {at: None}
        saves = {}
        for step in sorted(old):
            run.train(step)
            saves[step] = run.saved()
        other = run.reset()
        decay = run.optimizer.param_groups[0]["betas"][1]
        for k in since:
            other.train(at + k)
            for start in saves:
                said = compare(saves[start], other.saved(), at + k - start, decay, start)
                yield Judged(way.name, model.__name__, beta2, at + k - start, k, said)


def study(seeds: int, *, quick: bool = False) -> list[Judged]:
    """Train and judge everything; `quick` takes one model and short runs of a few ways."""
    found: list[Judged] = []
    torch.set_num_threads(1)
    for beta2, (steps, gaps, since) in PLANS.items():
        for index, way in enumerate(WAYS):
            for seed in range(1, seeds + 1):
                for model in (Dense, Language):
                    if quick and (index + (model is Dense)) % 4:
                        continue
                    length = steps // 3 if quick else steps
                    short = [gap for gap in gaps if gap < length / 2]
                    found += healthy(way, model, beta2, seed, short, length)
                    if index < 4:
                        short = [k for k in since if k < length]
                        found += broken(way, model, beta2, seed, short, length)
    return found


def report(found: Sequence[Judged]) -> None:
    """Print both error rates."""
    well = [judged for judged in found if judged.since is None]
    print("healthy pairs of saves: ways, pairs, proofs, hints")
    for name in dict.fromkeys(judged.way for judged in well):
        of = [judged.said for judged in well if judged.way == name]
        proofs = sum(said is not None and said.proved for said in of)
        hints = sum(said is not None and not said.proved for said in of)
        print(f"  {name:<44}{len(of):>6}{proofs:>6}{hints:>6}")
    print(f"  {'all':<44}{len(well):>6}", sum(judged.said is not None for judged in well))
    print("resets: model, beta2, k, between; cases, proved, hinted, k in the range, its error")
    ill = [judged for judged in found if judged.since is not None]
    for key in sorted({(j.model, j.beta2, j.between == j.since, j.since or 0) for j in ill}):
        of_key = [j for j in ill if (j.model, j.beta2, j.between == j.since, j.since) == key]
        print(f"  {key[0]:<9} {key[1]:<6} {key[3]:>4} {'k' if key[2] else 'more':<5}", _row(of_key))


def _row(cases: Sequence[Judged]) -> str:
    proved = [j for j in cases if j.said is not None and j.said.proved]
    hinted = [j for j in cases if j.said is not None and not j.said.proved]
    told = [(j.since or 0, j.said.since) for j in cases if j.said is not None and j.said.since]
    within = sum(since[1] <= k <= since[2] for k, since in told)
    errors = sorted(abs(since[0] - k) / k for k, since in told)
    middle = f"{errors[len(errors) // 2]:.0%}" if errors else "-"
    return f"{len(cases):>4}{len(proved):>5}{len(hinted):>5}{within:>5}/{len(told):<4}{middle:>5}"


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    report(study(options.seeds, quick=options.quick))


if __name__ == "__main__":
    main()
