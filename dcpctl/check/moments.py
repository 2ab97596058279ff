"""What the numbers of second moments say; read block by block, and no further than needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dcpctl.check import words
from dcpctl.check.options import CheckOptions
from dcpctl.errors import DcpctlError
from dcpctl.formats.arrays import distinct
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.entry import TensorEntry
from dcpctl.model.optimizer.moments import SECOND_MOMENTS
from dcpctl.model.optimizer.view import OptimizerView

#: Bytes of one block, and the first block of each tensor is all that a sample reads of it.
_BLOCK_BYTES = 256 << 10
#: Most tensors that a sample looks at, and most bytes that it reads to see that one is all zero.
_SAMPLE_TENSORS = 256
_SAMPLE_BYTES = 128 << 20


@dataclass(slots=True)
class Moment:
    """The numbers of one slot of one parameter.

    Attributes:
        parameter: its name.
        slot: state slot.
        fqn: its entry.
        negative: negative numbers among those read.
        lowest: the lowest of these.
        infinite: infinities among those read.
        nan: NaN among those read.
        all_zero: every number was read and is zero.
        in_full: every number was read.
        numbers: numbers read.
        unread: why it could not be read; empty if it could.
    """

    parameter: str
    slot: str
    fqn: str
    negative: int = 0
    lowest: float = 0.0
    infinite: int = 0
    nan: int = 0
    all_zero: bool = False
    in_full: bool = False
    numbers: int = 0
    unread: str = ""


@dataclass(slots=True)
class Moments:
    """All that were looked at.

    Attributes:
        found: one by one, in the order of the parameters.
        expected: second moments that the checkpoint has.
        whole: every number of them was read.
    """

    found: list[Moment]
    expected: int
    whole: bool

    @property
    def unread(self) -> list[Moment]:
        """Those that could not be read."""
        return [moment for moment in self.found if moment.unread]

    @property
    def note(self) -> str:
        """How much of them was read, in a sentence; empty where that was all that can be."""
        if self.whole:
            return ""
        read = len(self.found) - len(self.unread)
        part = sum(not (moment.unread or moment.in_full) for moment in self.found)
        if not part and len(self.found) == self.expected:
            return ""
        were = "was" if read == 1 else "were"
        of = f"Of {words.count(self.expected, 'second moment')}, {read:,} {were}"
        if not part:
            return f"{of} examined. --values examines all."
        some = " in part" if part == read else f", {part:,} of them in part"
        return f"{of} examined{some}. --values examines them in full."


def read_moments(checkpoint: Checkpoint, view: OptimizerView, options: CheckOptions) -> Moments:
    """Read the second moments: all numbers with `verify_data` or `values`, else a sample."""
    whole = options.verify_data or options.values
    every = list(_second_moments(checkpoint, view))
    chosen = every
    if not whole and len(every) > _SAMPLE_TENSORS:
        picked = np.linspace(0, len(every) - 1, _SAMPLE_TENSORS).astype(int)
        chosen = [every[index] for index in distinct(picked).tolist()]
    left = None if whole else _SAMPLE_BYTES
    found = []
    for parameter, slot, entry in chosen:
        moment = Moment(parameter, slot, entry.fqn)
        read = _read(moment, entry, left)
        left = None if left is None else max(0, left - read)
        found.append(moment)
    return Moments(found, len(every), whole)


def _second_moments(
    checkpoint: Checkpoint, view: OptimizerView
) -> Iterator[tuple[str, str, TensorEntry]]:
    for parameter in view.parameters:
        for slot, state in parameter.slots.items():
            entry = checkpoint.entries.get(state.fqn)
            if slot in SECOND_MOMENTS and isinstance(entry, TensorEntry) and entry.numel:
                yield parameter.name, slot, entry


def _read(moment: Moment, entry: TensorEntry, budget: int | None) -> int:
    """Fill in `moment`; return the bytes read.

    With a budget only the first block is looked at, and more as long as all is zero.
    """
    read = 0
    zero = True
    try:
        for block in entry.blocks(_BLOCK_BYTES if budget is not None else _BLOCK_BYTES << 4):
            read += block.nbytes
            moment.numbers += block.size
            numbers = block.astype(np.float32) if block.dtype.itemsize < 4 else block
            negative = numbers < 0
            if negative.any():
                moment.negative += int(negative.sum())
                moment.lowest = min(moment.lowest, float(numbers[negative].min()))
            finite = np.isfinite(numbers)
            if not finite.all():
                moment.nan += int(np.isnan(numbers).sum())
                moment.infinite += int(np.isinf(numbers).sum())
            zero = zero and not numbers.any()
            if budget is not None and (not zero or read > budget):
                break
        moment.in_full = moment.numbers >= entry.numel
        moment.all_zero = zero and moment.in_full
    except DcpctlError as error:
        moment.unread = error.message
    return read
