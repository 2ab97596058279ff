"""First and second moments side by side, chunk by chunk: do they belong together?

By default a sample is read, the same one always, with a part of every rank's file in it; with
`verify_data` or `values` all of it. Memory is bounded by a block of numbers for each thread.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from dcpctl.check.chunk_parts import distinct_rows, part_of, read_same, spread
from dcpctl.check.estimate import Floats
from dcpctl.check.moment_bound import MAXIMUM, betas_of, memory, pair_of, precision_of
from dcpctl.check.moment_evidence import Evidence, Terms, terms_of
from dcpctl.check.options import CheckOptions
from dcpctl.errors import DcpctlError
from dcpctl.model import boxes
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.entry import TensorEntry
from dcpctl.model.optimizer.catalogue import catalogue
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.parallel import Meter, Threads

_MAX_SLOT = "max_exp_avg_sq"
#: Without `values`: most chunks of which a part is read, most where each is of another file, the
#: numbers of that part, and the numbers that are read in all to see whether a chunk is zero to its
#: end.
_SAMPLE_CHUNKS = 256
_SAMPLE_FILES = 1024
_SAMPLE_NUMBERS = 8192
_SAMPLE_ZEROS = 16 << 20
#: Numbers of one block where all are read; a compressed item is decompressed for every block.
_BLOCK_NUMBERS = 1 << 20
_COMPRESSED_NUMBERS = 16 << 20


@dataclass(frozen=True, slots=True)
class Pair:
    """The two moments of one parameter.

    Attributes:
        parameter: its name.
        root: the optimizer's root.
        first: entry of the first moment.
        second: entry of the second moment.
        largest: entry of AMSGrad's largest second moment; None where there is none.
        terms: under which both came about.
        certain: the optimizer is one of torch's; others may keep other means by the same names.
    """

    parameter: str
    root: str
    first: TensorEntry
    second: TensorEntry
    largest: TensorEntry | None
    terms: Terms
    certain: bool

    @property
    def key(self) -> tuple[str, str]:
        """Root and name."""
        return self.root, self.parameter

    @property
    def nbytes(self) -> int:
        """Bytes of both moments."""
        return self.first.nbytes + self.second.nbytes


@dataclass(slots=True)
class ChunkPair:
    """What the moments in one chunk of the second one say.

    Attributes:
        pair: whose they are.
        row: of the chunk, in the second moment's table.
        file: path of the shard file that holds its second moments; None where no item does.
        rank: that wrote this file; None where no name tells.
        evidence: what was counted.
        whole: the evidence knows of every number whether it is zero.
        unread: why it could not be read; empty if it could.
    """

    pair: Pair
    row: int
    file: str | None
    rank: int | None
    evidence: Evidence
    whole: bool = False
    unread: str = ""

    @property
    def second_zero(self) -> bool:
        """Every second moment of the chunk is zero."""
        return self.whole and not self.evidence.alive[1]

    @property
    def both_zero(self) -> bool:
        """Every number of both moments is zero."""
        return self.second_zero and not self.evidence.alive[0]

    @property
    def only_first_zero(self) -> bool:
        """First moments that were set to zero beside second ones that were not."""
        return self.whole and self.evidence.first_zero

    @property
    def remarkable(self) -> bool:
        """Whether there is anything to say of it."""
        found = self.evidence
        told = found.beyond or found.above or found.swapped
        return bool(told or self.both_zero or self.only_first_zero or self.unread)


@dataclass(slots=True)
class MomentPairs:
    """All pairs that were looked at.

    Attributes:
        remarkable: chunks that have something to say, in the order of the parameters.
        looked: chunks of which something was read.
        expected: chunks that hold second moments beside first ones.
        parameters: number of parameters with such moments, by the optimizer's root.
        ranks: whose files hold them.
        alive: parameters, with their roots, that have a chunk which is not zero.
        resting: parameters, with their roots, that have rows of zeros in such a chunk.
        whole: every number was read.
        unknown: parameters whose betas could not be told, so that nothing follows for them.
    """

    remarkable: list[ChunkPair] = field(default_factory=list)
    looked: int = 0
    expected: int = 0
    parameters: Counter[str] = field(default_factory=Counter)
    ranks: set[int | None] = field(default_factory=set)
    alive: set[tuple[str, str]] = field(default_factory=set)
    resting: set[tuple[str, str]] = field(default_factory=set)
    whole: bool = False
    unknown: list[str] = field(default_factory=list)

    @property
    def unread(self) -> list[ChunkPair]:
        """Those that could not be read."""
        return [chunk for chunk in self.remarkable if chunk.unread]

    def zero_by_rank(self) -> dict[int, list[ChunkPair]]:
        """Ranks with chunks of zeros in both moments of parameters that are alive elsewhere."""
        found: dict[int, list[ChunkPair]] = {}
        for chunk in self.remarkable:
            if chunk.both_zero and chunk.rank is not None and chunk.pair.key in self.alive:
                found.setdefault(chunk.rank, []).append(chunk)
        return found

    def take(self, chunk: ChunkPair) -> None:
        """Count a chunk, and keep it if there is anything to say of it."""
        self.looked += not chunk.unread
        self.ranks.add(chunk.rank)
        if not chunk.unread and not chunk.second_zero:
            self.alive.add(chunk.pair.key)
            if chunk.evidence.resting:
                self.resting.add(chunk.pair.key)
        if chunk.remarkable:
            self.remarkable.append(chunk)


def read_pairs(
    checkpoint: Checkpoint,
    view: OptimizerView,
    options: CheckOptions,
    earlier: OptimizerView | None = None,
) -> MomentPairs:
    """Compare first and second moments: all with `verify_data` or `values`, else a sample.

    Args:
        checkpoint: that holds them.
        view: what it says of its optimizer.
        options: what to read, and with how many threads.
        earlier: of the save before, whose betas may have been others.
    """
    found = MomentPairs(whole=options.verify_data or options.values)
    pairs = list(_pairs(checkpoint, view, earlier, found.unknown))
    found.parameters.update(pair.root for pair in pairs)
    if found.whole:
        _read_all(pairs, options, found)
        return found
    every = [(pair, row) for pair in pairs for row in distinct_rows(pair.second)]
    found.expected = len(every)
    left = _SAMPLE_ZEROS
    files = [int(pair.second.chunks.file[row]) for pair, row in every]
    most = min(max(_SAMPLE_CHUNKS, len(set(files))), _SAMPLE_FILES)
    for number, (pair, row) in enumerate(spread(every, files, most)):
        chunk, read = _read_sample(pair, row, number, left)
        left -= read
        found.take(chunk)
    return found


def _read_all(pairs: list[Pair], options: CheckOptions, found: MomentPairs) -> None:
    meter = Meter(options.progress, sum(pair.nbytes for pair in pairs))
    with Threads(options.threads, "moments") as threads:
        for pair, chunks in zip(pairs, threads.in_order(_read_pair, pairs), strict=True):
            for chunk in chunks:
                found.expected += 1
                found.take(chunk)
            meter.add(pair.nbytes)


def _pairs(
    checkpoint: Checkpoint,
    view: OptimizerView,
    earlier: OptimizerView | None,
    unknown: list[str],
) -> Iterator[Pair]:
    before = {(p.root, p.name): p.values for p in earlier.parameters} if earlier else {}
    steps, old_steps = view.step_of, earlier.step_of if earlier else {}
    for parameter in view.parameters:
        slots = pair_of(parameter)
        if slots is None:
            continue
        first, second, largest = (
            _entry(checkpoint, parameter, slot) for slot in (*slots[:2], _MAX_SLOT)
        )
        if first is None or second is None or first.shape != second.shape:
            continue
        groups = [parameter.values]
        old = before.get((parameter.root, parameter.name))
        if old is not None and "betas" in old:
            groups.append(old)
        betas = betas_of(groups)
        if betas is None:
            unknown.append(parameter.name)
            continue
        step = steps.get(parameter.name, 0)
        # A step that was set back to zero says nothing of the moments.
        taken = step if 1 <= step < math.inf else math.inf
        terms = terms_of(
            slots[2],
            betas,
            taken,
            first.dtype,
            second.dtype,
            steady=len(groups) > 1
            and betas_of(groups[:1]) == betas
            and step - old_steps.get(parameter.name, math.inf) >= memory(betas, slots[2]),
            floor=_least_norm(parameter) if slots[2] == MAXIMUM else 0.0,
        )
        if largest is not None and largest.shape != second.shape:
            largest = None
        kind = parameter.kind
        certain = kind.rules is not None and {*kind.candidates} <= {*catalogue().torch}
        yield Pair(parameter.name, parameter.root, first, second, largest, terms, certain)


def _least_norm(parameter: Parameter) -> float:
    """What Adamax's norm comes to without any gradient: its eps."""
    eps = parameter.values.get("eps")
    return 2.0 * eps if isinstance(eps, (int, float)) and eps >= 0 else math.inf


def _entry(checkpoint: Checkpoint, parameter: Parameter, slot: str) -> TensorEntry | None:
    state = parameter.slots.get(slot)
    entry = checkpoint.entries.get(state.fqn) if state is not None else None
    if not isinstance(entry, TensorEntry) or not entry.numel:
        return None
    return entry if precision_of(entry.dtype) is not None else None


def _read_pair(pair: Pair) -> list[ChunkPair]:
    """Read every chunk of both moments."""
    chunks = []
    for row in distinct_rows(pair.second):
        chunk = _chunk(pair, row)
        most = _COMPRESSED_NUMBERS if _squeezed(pair) else _BLOCK_NUMBERS
        try:
            for starts, stops in boxes.split(_sizes(pair, row), most):
                chunk.evidence.add(*_blocks(pair, row, starts, stops))
            chunk.whole = True
        except DcpctlError as error:
            chunk.unread = error.message
        chunks.append(chunk)
    return chunks


def _read_sample(pair: Pair, row: int, number: int, left: int) -> tuple[ChunkPair, int]:
    """Read a part of a chunk, and more as long as all is zero; return the numbers read then."""
    chunk = _chunk(pair, row)
    sizes = _sizes(pair, row)
    whole = (0,) * len(sizes), sizes
    read = 0
    try:
        box = whole if _squeezed(pair) else part_of(sizes, number, _SAMPLE_NUMBERS)
        chunk.evidence.add(*_blocks(pair, row, *box))
        chunk.whole = box == whole
        if not chunk.whole and not all(chunk.evidence.alive):
            read = _read_on(chunk, sizes, left)
    except DcpctlError as error:
        chunk.unread = error.message
    return chunk, read


def _read_on(chunk: ChunkPair, sizes: tuple[int, ...], left: int) -> int:
    """See whether a chunk is zero to its end, if so much may be read; return the numbers read."""
    read = 0
    for starts, stops in boxes.split(sizes, _BLOCK_NUMBERS):
        read += math.prod(b - a for a, b in zip(starts, stops, strict=True))
        if read > left:
            return read
        chunk.evidence.see(*_blocks(chunk.pair, chunk.row, starts, stops)[:2])
        if all(chunk.evidence.alive):
            break
    chunk.whole = True
    return read


def _chunk(pair: Pair, row: int) -> ChunkPair:
    file = pair.second.shard_file(row)
    name, rank = (file.name, file.rank) if file else (None, None)
    return ChunkPair(pair, row, name, rank, Evidence(pair.terms))


def _sizes(pair: Pair, row: int) -> tuple[int, ...]:
    return tuple(pair.second.chunks.sizes[row].tolist())


def _squeezed(pair: Pair) -> bool:
    """Whether a part of a chunk costs as much as all of it."""
    return any(entry.stored.transforms for entry in (pair.first, pair.second))


def _blocks(
    pair: Pair, row: int, starts: tuple[int, ...], stops: tuple[int, ...]
) -> tuple[Floats, Floats, Floats | None]:
    """A box of the second moment's chunk: first moments, second ones, largest ones."""
    second = pair.second.read_chunk(row, starts, stops)
    first, largest = (
        None if entry is None else read_same(entry, pair.second, row, starts, stops)
        for entry in (pair.first, pair.largest)
    )
    assert first is not None
    return first, second, largest
