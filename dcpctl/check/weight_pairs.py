"""The weights of two saves side by side, chunk by chunk: how far did they move?

A sample is read by default, the same one always, with a part of every rank's file in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from dcpctl.check.chunk_parts import distinct_rows, part_of, read_same, spread
from dcpctl.check.estimate import Floats, comparable
from dcpctl.check.history import History
from dcpctl.check.moment_bound import pair_of
from dcpctl.errors import DcpctlError
from dcpctl.model import boxes
from dcpctl.model.entry import TensorEntry
from dcpctl.model.optimizer.coverage import Parameter

#: Without `values`: most chunks of which a part is read, and the numbers of that part.
_SAMPLE_CHUNKS = 256
_SAMPLE_NUMBERS = 8192
_BLOCK_NUMBERS = 1 << 20
#: Group keys that say how large the learning rate gets.
_PEAKS = ("initial_lr", "max_lr")


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight that both saves have.

    Attributes:
        name: the parameter's.
        before: its entry in the earlier save.
        after: its entry in the later save.
        rate: the largest learning rate that it may have had in between; None where nothing says.
        sure: a schedule's own peak is among what `rate` was taken from.
        decay: its weight decay.
        adam: its optimizer moves it by about the learning rate in a step.
    """

    name: str
    before: TensorEntry
    after: TensorEntry
    rate: float | None
    sure: bool
    decay: float
    adam: bool


@dataclass(slots=True)
class WeightChunk:
    """What was read of one chunk of a weight, in both saves.

    Attributes:
        weight: whose it is.
        file: that holds it in the later save.
        rank: that wrote this file; None where no name tells.
        numbers: read in each save.
        unequal: numbers that differ.
        squares: sums of the squares, in the earlier and in the later save.
        apart: sum of the squares of their differences.
        product: sum of their products.
    """

    weight: Weight
    file: str | None
    rank: int | None
    numbers: int = 0
    unequal: int = 0
    squares: tuple[float, float] = (0.0, 0.0)
    apart: float = 0.0
    product: float = 0.0

    @property
    def same(self) -> bool:
        """Every number is what it was, and not all are zero."""
        return not self.unequal and self.squares[0] > 0

    @property
    def cosine(self) -> float:
        """Of the angle between both; 1 where one is zero everywhere."""
        both = math.sqrt(self.squares[0] * self.squares[1])
        return self.product / both if both > 0 else 1.0

    @property
    def sizes(self) -> tuple[float, float, float]:
        """Root mean squares, of both saves and of the difference."""
        before, after = self.squares
        n = max(1, self.numbers)
        return math.sqrt(before / n), math.sqrt(after / n), math.sqrt(self.apart / n)

    def add(self, before: Floats, after: Floats) -> None:
        """Count a block of both; numbers that are not finite in either count as unequal only."""
        old, new = before.astype(np.float64).ravel(), after.astype(np.float64).ravel()
        self.unequal += int(np.count_nonzero(~((old == new) | (np.isnan(old) & np.isnan(new)))))
        finite = np.isfinite(old) & np.isfinite(new)
        old, new = old[finite], new[finite]
        self.numbers += old.size
        here = self.squares
        self.squares = here[0] + float(old @ old), here[1] + float(new @ new)
        self.apart += float((new - old) @ (new - old))
        self.product += float(old @ new)


@dataclass(slots=True)
class WeightPairs:
    """The weights that were compared.

    Attributes:
        chunks: one by one, in the order of the parameters.
        expected: chunks that could be compared.
        unread: what could not be read, and why.
    """

    chunks: list[WeightChunk] = field(default_factory=list)
    expected: int = 0
    unread: dict[str, str] = field(default_factory=dict)


def compare_weights(history: History, *, whole: bool) -> WeightPairs:
    """Read the trained weights of both saves: all numbers, or a sample."""
    weights = list(_weights(history))
    every = [(weight, row) for weight in weights for row in distinct_rows(weight.after)]
    found = WeightPairs(expected=len(every))
    chosen = every
    if not whole:
        files = [int(weight.after.chunks.file[row]) for weight, row in every]
        chosen = spread(every, files, _SAMPLE_CHUNKS)
    for number, (weight, row) in enumerate(chosen):
        file = weight.after.shard_file(row)
        chunk = WeightChunk(weight, file.name if file else None, file.rank if file else None)
        sizes = tuple(weight.after.chunks.sizes[row].tolist())
        squeezed = any(entry.stored.transforms for entry in (weight.before, weight.after))
        parts = (
            boxes.split(sizes, _BLOCK_NUMBERS)
            if whole
            else [
                ((0,) * len(sizes), sizes) if squeezed else part_of(sizes, number, _SAMPLE_NUMBERS)
            ]
        )
        try:
            for starts, stops in parts:
                after = weight.after.read_chunk(row, starts, stops)
                chunk.add(read_same(weight.before, weight.after, row, starts, stops), after)
            found.chunks.append(chunk)
        except DcpctlError as error:
            found.unread[weight.after.fqn] = error.message
    return found


def _weights(history: History) -> Iterator[Weight]:
    """The weights that were updated between the saves, as far as the optimizer tells."""
    before, after = history.earlier.view, history.later.view
    old_steps, steps = before.step_of, after.step_of
    old_groups = {(p.root, p.name): p.values for p in before.parameters}
    # A step that is kept and could not be read is unknown: nothing says that it moved.
    unknown = {p.name for p in before.parameters if "step" in p.slots and p.name not in old_steps}
    unknown |= {p.name for p in after.parameters if "step" in p.slots and p.name not in steps}
    for parameter in after.parameters:
        if parameter.fqn is None or parameter.name in unknown:
            continue
        step, old_step = steps.get(parameter.name, 1.0), old_steps.get(parameter.name, 0.0)
        moved = step - old_step if step >= old_step else step  # since a restart
        entries = (
            history.earlier.checkpoint.entries.get(parameter.fqn),
            history.later.checkpoint.entries.get(parameter.fqn),
        )
        old, new = entries
        if not isinstance(old, TensorEntry) or not isinstance(new, TensorEntry):
            continue
        if not moved > 0 or old.shape != new.shape or not new.numel:
            continue
        if comparable(old.dtype) and comparable(new.dtype):
            groups = [parameter.values, old_groups.get((parameter.root, parameter.name), {})]
            yield _weight(parameter, old, new, groups)


def _weight(
    parameter: Parameter, old: TensorEntry, new: TensorEntry, groups: list[Mapping[str, object]]
) -> Weight:
    rates = [_number(group.get("lr")) for group in groups]
    peaks = [_number(group.get(key)) for group in groups for key in _PEAKS]
    told = [rate for rate in (*rates, *peaks) if rate is not None]
    decays = [_number(group.get("weight_decay")) or 0.0 for group in groups]
    return Weight(
        parameter.name,
        old,
        new,
        max(told, default=None),
        any(peak is not None for peak in peaks),
        max(decays),
        pair_of(parameter) is not None,
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
