"""Every float and complex number of a checkpoint, read in blocks: how many are not finite?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpctl.check.options import CheckOptions
from dcpctl.errors import DcpctlError, PackedItem
from dcpctl.formats import dtypes
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.entry import TensorEntry
from dcpctl.parallel import Meter, Threads

#: Bytes of numbers that a thread holds at once.
BLOCK_BYTES = 4 << 20
#: A compressed item is decompressed anew for every block, so blocks are large and few at once.
_COMPRESSED_BLOCK_BYTES = 64 << 20


@dataclass(slots=True)
class NotFinite:
    """The count of one tensor.

    Attributes:
        fqn: the tensor.
        numbers: its numbers; of a packed tensor those of the float tensors inside it.
        nan: of these, NaN.
        infinite: of these, infinities.
        unread: why it could not be read; empty if it could.
    """

    fqn: str
    numbers: int
    nan: int = 0
    infinite: int = 0
    unread: str = ""


def count_not_finite(checkpoint: Checkpoint, options: CheckOptions) -> Iterator[NotFinite]:
    """Yield the count of every float and complex tensor, in metadata order."""
    chosen = [
        entry
        for entry in checkpoint.tensors.values()
        if dtypes.info(entry.dtype).kind in ("float", "complex")
    ]
    meter = Meter(options.progress, sum(entry.nbytes for entry in chosen))
    one_at_a_time = threading.Lock()

    def count(entry: TensorEntry) -> NotFinite:
        if entry.stored.transforms:
            with one_at_a_time:
                return _count(entry, _COMPRESSED_BLOCK_BYTES)
        return _count(entry, BLOCK_BYTES)

    with Threads(options.threads, "values") as threads:
        for entry, found in zip(chosen, threads.in_order(count, chosen), strict=True):
            meter.add(entry.nbytes)
            yield found


def _count(entry: TensorEntry, block_bytes: int) -> NotFinite:
    found = NotFinite(entry.fqn, entry.numel)
    try:
        for block in entry.blocks(block_bytes):
            _add(found, block)
    except PackedItem:
        found = NotFinite(entry.fqn, 0)
        try:
            for block in entry.inner_blocks(block_bytes):
                found.numbers += block.size
                _add(found, block)
        except DcpctlError as error:
            found.unread = error.message
    except DcpctlError as error:
        found.unread = error.message
    return found


def _add(found: NotFinite, block: NDArray[Any]) -> None:
    for numbers in _parts(block):
        finite = np.isfinite(numbers)
        if not finite.all():
            bad = numbers[~finite]
            nan = int(np.isnan(bad).sum())
            found.nan += nan
            found.infinite += len(bad) - nan


def _parts(block: NDArray[Any]) -> list[NDArray[Any]]:
    """complex32 is a pair of fields in NumPy; every other dtype is itself."""
    return [block[field] for field in block.dtype.names] if block.dtype.names else [block]
