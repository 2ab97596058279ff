"""DCP5xx: do first and second moments belong together?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from dcpctl.check import words
from dcpctl.check.chunk_parts import read_same
from dcpctl.check.finding import ERROR, INFO, WARNING
from dcpctl.check.moment_bound import SQUARES
from dcpctl.check.moment_pairs import ChunkPair, MomentPairs
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.errors import DcpctlError
from dcpctl.model import boxes
from dcpctl.model.entry import TensorEntry
from dcpctl.model.optimizer.verdict import ABSENT

Test = Callable[[ChunkPair], bool]
Say = Callable[[list[ChunkPair], str], str]
_BLOCK_NUMBERS = 1 << 20


@rule("DCP512", ERROR, "first and second moments contradict each other")
def contradiction(run: Run) -> Iterator[Hit]:
    """What Cauchy and Schwarz allow a first moment beside its second one."""
    pairs = _pairs(run)
    tests: tuple[tuple[Test, Say], ...] = (
        (lambda chunk: chunk.evidence.swapped, _say_swapped),
        (lambda chunk: chunk.second_zero and chunk.evidence.beyond > 0, _say_second_zero),
        (lambda chunk: chunk.only_first_zero, _say_first_zero),
        (lambda chunk: chunk.evidence.beyond > 0, _say_beyond),
        (lambda chunk: chunk.evidence.above > 0, _say_above),
    )
    left = pairs.remarkable
    for test, say in tests:
        hits = [chunk for chunk in left if test(chunk)]
        left = [chunk for chunk in left if not test(chunk)]
        for chunks, where in _grouped(hits, pairs):
            doubts, severity = _doubts(chunks, pairs) if say is _say_beyond else ("", None)
            yield Hit(
                chunks[0].pair.first.fqn,
                say(chunks, where) + doubts,
                file=_file(chunks),
                severity=severity,
            )
    _require(pairs)


@rule("DCP513", WARNING, "the moments that one rank saved are all zero")
def rank_of_zeros(run: Run) -> Iterator[Hit]:
    """Chunks that are zero in both moments, of parameters that other ranks have moments of."""
    pairs = _pairs(run)
    steps = run.optimizer.step_of
    for rank, chunks in pairs.zero_by_rank().items():
        trained = [
            chunk
            for chunk in chunks
            if steps.get(chunk.pair.parameter, 1) > 0 and not _was_zero(run, chunk)
        ]
        if not trained:
            continue
        rests = all(chunk.pair.key in pairs.resting for chunk in trained)
        yield Hit(
            trained[0].pair.second.fqn,
            f"{' and '.join(_slots(trained[0]))} are zero everywhere in "
            f"{_whose(trained, _of_rank(rank))}, and not in those of other ranks: "
            + (
                "likely rows that no gradient ever reached, as other rows there are zero too"
                if rests
                else "lost, or no gradient ever reached these rows"
            ),
            file=_file(trained),
            severity=INFO if rests else None,
        )


def _was_zero(run: Run, chunk: ChunkPair) -> bool:
    """Whether the second moments of a chunk were zero in the save before too, which said it."""
    if run.against is None:
        return False
    second = chunk.pair.second
    before = run.against.entries.get(second.fqn)
    if not isinstance(before, TensorEntry) or before.shape != second.shape:
        return False
    sizes = tuple(second.chunks.sizes[chunk.row].tolist())
    try:
        return not any(
            read_same(before, second, chunk.row, starts, stops).any()
            for starts, stops in boxes.split(sizes, _BLOCK_NUMBERS)
        )
    except DcpctlError:
        return False


def _doubts(chunks: list[ChunkPair], pairs: MomentPairs) -> tuple[str, str | None]:
    """What else might explain such moments, clauses, and how grave they are then.

    Where most of an unknown optimizer's parameters have them, its slots are likely no such means.
    """
    doubts, severity = "", None
    if not any(chunk.evidence.proved for chunk in chunks):
        doubts, severity = ", or the betas changed in the last steps", WARNING
    found = {chunk.pair.key for chunk in chunks}
    if not chunks[0].pair.certain and 2 * len(found) > pairs.parameters[chunks[0].pair.root]:
        doubts, severity = doubts + ", or this optimizer keeps other means", INFO
    return doubts, severity


def _file(chunks: list[ChunkPair]) -> str | None:
    """The one file that holds them all."""
    files = {chunk.file for chunk in chunks}
    return files.pop() if len(files) == 1 else None


def _pairs(run: Run) -> MomentPairs:
    if run.optimizer.verdict == ABSENT:
        raise CannotRun("there is no optimizer state")
    pairs = run.pairs
    if not pairs.parameters and not pairs.unknown:
        raise CannotRun("no bound between moments of this optimizer is known")
    return pairs


def _require(pairs: MomentPairs) -> None:
    if pairs.unread:
        lost = pairs.unread
        raise CannotRun(
            f"{words.count(len(lost), 'chunk')} of the moments could not be read "
            f"({words.some(dict.fromkeys(c.pair.second.fqn for c in lost))}): {lost[0].unread}"
        )
    if pairs.unknown:
        raise CannotRun(
            f"the betas of {words.count(len(pairs.unknown), 'parameter')} are unknown "
            f"({words.some(pairs.unknown)})"
        )


def _grouped(hits: list[ChunkPair], pairs: MomentPairs) -> Iterator[tuple[list[ChunkPair], str]]:
    """The chunks of one optimizer and one rank, and a clause that says whose they are.

    Where all ranks show it, or no name tells the rank, all are one group.
    """
    by_root: dict[str, list[ChunkPair]] = {}
    for chunk in hits:
        by_root.setdefault(chunk.pair.root, []).append(chunk)
    for chunks in by_root.values():
        by_rank: dict[int | None, list[ChunkPair]] = {}
        for chunk in chunks:
            by_rank.setdefault(chunk.rank, []).append(chunk)
        if len(pairs.ranks) == 1 or (len(by_rank) > 1 and len(by_rank) == len(pairs.ranks)):
            yield chunks, ""
            continue
        for rank, members in by_rank.items():
            yield members, "" if rank is None else _of_rank(rank)


def _of_rank(rank: int) -> str:
    return f"rank {rank}'s chunks of "


def _slots(chunk: ChunkPair) -> tuple[str, str]:
    form = "exp_avg_sq" if chunk.pair.terms.form == SQUARES else "exp_inf"
    return "exp_avg", form


def _whose(chunks: list[ChunkPair], where: str) -> str:
    names = list(dict.fromkeys(chunk.pair.parameter for chunk in chunks))
    return f"{where}{words.count(len(names), 'parameter')} ({words.some(names)})"


def _read(chunks: list[ChunkPair]) -> str:
    return f"{words.count(sum(chunk.evidence.numbers for chunk in chunks), 'number')} read"


def _say_swapped(chunks: list[ChunkPair], where: str) -> str:
    first, second = _slots(chunks[0])
    negative = sum(chunk.evidence.negative[1] for chunk in chunks)
    return (
        f"{first} and {second} look swapped in {_whose(chunks, where)}: of "
        f"{_read(chunks)} of each, {second} "
        f"has {negative:,} below zero and {first} has none"
    )


def _say_second_zero(chunks: list[ChunkPair], where: str) -> str:
    first, second = _slots(chunks[0])
    return (
        f"{second} is zero everywhere in {_whose(chunks, where)}, and {first} is not: {second} was "
        "lost or set to zero"
    )


def _say_first_zero(chunks: list[ChunkPair], where: str) -> str:
    first, second = _slots(chunks[0])
    return (
        f"{first} is zero everywhere in {_whose(chunks, where)}, and {second} is not: {first} was "
        "lost or set to zero, since it does not decay to zero"
    )


def _say_beyond(chunks: list[ChunkPair], where: str) -> str:
    first, second = _slots(chunks[0])
    worst = max((chunk.evidence for chunk in chunks), key=lambda found: found.worst)
    beyond = sum(chunk.evidence.beyond for chunk in chunks)
    root = f"the root of {second}" if worst.terms.form == SQUARES else second
    zero = math.isinf(worst.worst)
    at_worst = (
        f"some beside an {second} of zero" if zero else f"up to {worst.worst:.3g} times {root}"
    )
    most = f"{worst.factor:.3g} times" + (f" {root}" if zero else "")
    steps = worst.terms.steps
    after = "" if math.isinf(steps) else f" in {words.count(int(steps), 'step')}"
    return (
        f"{first} is larger than {second} allows in {_whose(chunks, where)}: in {beyond:,} of "
        f"{_read(chunks)}, {at_worst}, and no gradients bring it above {most}{after} "
        f"({worst.terms.betas}); the two are not of the same gradients"
    )


def _say_above(chunks: list[ChunkPair], where: str) -> str:
    above = sum(chunk.evidence.above for chunk in chunks)
    return (
        f"max_exp_avg_sq is below exp_avg_sq in {_whose(chunks, where)}, in {above:,} of "
        f"{_read(chunks)}: it is the largest "
        "that exp_avg_sq has been"
    )
