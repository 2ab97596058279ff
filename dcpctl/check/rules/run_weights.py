"""DCP6xx: did the weights move as the optimizer says?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from dcpctl.check import words
from dcpctl.check.finding import ERROR, WARNING
from dcpctl.check.history import History
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.check.weight_pairs import WeightChunk, WeightPairs

# So many numbers tell that weights stood still, and so many of a matrix where they went.
_LEAST_NUMBERS, _LEAST_MATRIX = 16, 256
# Of one rank alone, so many chunks.
_LEAST_CHUNKS = 3
# An update of Adam's is about as large as the learning rate; a few of them in one direction more.
_STEP = 2.0
# Below the first, weights that moved too far are others; noise has a cosine about 0.
_ANOTHER, _NOISE, _SCALED, _MOST = 0.5, 0.05, 2.0, 0.8
# Relative to the weights, below which an update may be rounded away.
_ROUNDED = {"float64": 2.0**-50, "float32": 2.0**-21, "float16": 2.0**-8, "bfloat16": 2.0**-5}


@rule("DCP612", ERROR, "the weights did not change while the optimizer advanced")
def stood_still(run: Run) -> Iterator[Hit]:
    """Numbers of the trained weights that are exactly those of the save before."""
    history = run.since()
    pairs = _weights(run, history)
    chunks = [chunk for chunk in pairs.chunks if chunk.squares[0] > 0]
    if not chunks or all(chunk.weight.rate == 0 for chunk in chunks):
        return
    for members, where in _groups(chunks, lambda chunk: chunk.same):
        numbers = sum(chunk.numbers for chunk in members)
        if numbers < _LEAST_NUMBERS:
            continue
        rounded = all(_may_be_rounded(chunk) for chunk in members)
        yield Hit(
            members[0].weight.after.fqn,
            f"{_named(members, where)} exactly as in {history.earlier.name}, in all "
            f"{words.count(numbers, 'number')} read, though the optimizer took "
            f"{words.count(history.steps or 0, 'step')} since: "
            + (
                "each update may have been rounded away in so short a dtype"
                if rounded
                else "these weights are not the ones that it trained"
            ),
            file=_file(members) if where else None,
            severity=WARNING if rounded else None,
        )
    _require(pairs)


@rule("DCP610", ERROR, "the weights are others than in the save before")
def replaced(run: Run) -> Iterator[Hit]:
    """Weights that lie further from those of the save before than so many steps lead."""
    history = run.since()
    pairs = _weights(run, history)
    steps = history.steps or 0
    matrices = [
        chunk
        for chunk in pairs.chunks
        if chunk.numbers >= _LEAST_MATRIX and len(chunk.weight.after.shape) > 1 and chunk.squares[0]
    ]
    # Moments that began again, of which DCP602 tells, lead anywhere.
    far = [chunk for chunk in matrices if _far(chunk, steps)] if run.restart is None else []
    noise = [chunk for chunk in matrices if _unlike(chunk)]
    if far:
        for members, where in _by_rank(far, matrices):
            worst = max(members, key=lambda chunk: chunk.sizes[2])
            rate = worst.weight.rate or 0.0
            yield Hit(
                members[0].weight.after.fqn,
                f"{_named(members, where)} too far from {history.earlier.name}: up to "
                f"{worst.sizes[2]:.3g} a number (cosine {worst.cosine:.2g}, size "
                f"{worst.sizes[1]:.3g}, was {worst.sizes[0]:.3g}), and "
                f"{words.count(steps, 'step')} at a learning rate of at most {rate:.3g} lead some "
                f"{steps * rate:.3g} far",
                file=_file(members) if where else None,
                severity=None if worst.weight.sure else WARNING,
            )
    elif len(noise) >= max(2, _MOST * len(matrices)):
        yield Hit(
            noise[0].weight.after.fqn,
            f"{_named(noise, '')} without any likeness to {history.earlier.name}, "
            f"{words.count(steps, 'step')} before: the cosine is "
            f"{max(abs(chunk.cosine) for chunk in noise):.2g} at most, as that of noise",
            severity=WARNING,
        )
    _require(pairs)


def _weights(run: Run, history: History) -> WeightPairs:
    if history.advanced == 0 and not history.went_on:
        raise CannotRun("the optimizer took no step since the save before")
    if history.steps is None:
        raise CannotRun("neither the optimizer nor the run says how many steps lie between")
    if not run.weights.expected:
        raise CannotRun("no trained weight of this shape is in both saves")
    return run.weights


def _require(pairs: WeightPairs) -> None:
    if pairs.unread:
        raise CannotRun(
            f"{words.count(len(pairs.unread), 'weight')} could not be read "
            f"({words.some(pairs.unread)}): {next(iter(pairs.unread.values()))}"
        )


def _far(chunk: WeightChunk, steps: int) -> bool:
    """Whether so many steps of Adam do not lead from the one to the other."""
    weight = chunk.weight
    before, after, apart = chunk.sizes
    if not weight.adam or weight.rate is None or chunk.numbers == 0:
        return False
    reach = _STEP * steps * weight.rate * (1 + weight.decay * before)
    scaled = not before / _SCALED <= after <= before * _SCALED
    return apart > reach and (chunk.cosine < _ANOTHER or scaled)


def _unlike(chunk: WeightChunk) -> bool:
    """Whether the cosine is about zero, as far as so many numbers tell."""
    return chunk.squares[1] > 0 and abs(chunk.cosine) < max(_NOISE, 3 / math.sqrt(chunk.numbers))


def _may_be_rounded(chunk: WeightChunk) -> bool:
    weight = chunk.weight
    size = chunk.sizes[0]
    return weight.rate is not None and weight.rate < _ROUNDED[weight.after.dtype] * size


def _groups(
    chunks: list[WeightChunk], test: Callable[[WeightChunk], bool]
) -> Iterator[tuple[list[WeightChunk], str]]:
    """All chunks, if all pass; else those of each rank of which all pass, and others' do not."""
    if all(map(test, chunks)):
        yield chunks, ""
        return
    by_rank: dict[int, list[WeightChunk]] = {}
    for chunk in chunks:
        if chunk.rank is not None:
            by_rank.setdefault(chunk.rank, []).append(chunk)
    for rank, members in by_rank.items():
        if len(members) >= _LEAST_CHUNKS and all(map(test, members)):
            moved = {c.weight.name for c in chunks if c.rank != rank and c.unequal}
            if len({c.weight.name for c in members} & moved) >= _LEAST_CHUNKS:
                yield members, f"rank {rank}'s part of "


def _by_rank(
    found: list[WeightChunk], every: list[WeightChunk]
) -> Iterator[tuple[list[WeightChunk], str]]:
    """The found chunks of each rank; all together where every rank has some, or none is known."""
    ranks = {chunk.rank for chunk in every}
    mine = {chunk.rank for chunk in found}
    if len(ranks) == 1 or mine == ranks or None in mine:
        yield found, ""
        return
    for rank in sorted(rank for rank in mine if rank is not None):
        yield [chunk for chunk in found if chunk.rank == rank], f"rank {rank}'s part of "


def _named(chunks: list[WeightChunk], where: str) -> str:
    names = list(dict.fromkeys(chunk.weight.name for chunk in chunks))
    verb = "is" if len(names) == 1 or where else "are"
    return f"{where}{words.count(len(names), 'weight')} ({words.some(names)}) {verb}"


def _file(chunks: list[WeightChunk]) -> str | None:
    files = {chunk.file for chunk in chunks}
    return files.pop() if len(files) == 1 else None
