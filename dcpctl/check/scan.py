"""One pass over the storage items, in file order and by several threads.

It opens items, compares checksums and looks at what the pickles say; rules make findings of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dcpctl.check import words
from dcpctl.check.displaced import find_displaced
from dcpctl.check.item_reader import ItemReader, ItemReport
from dcpctl.check.items import Items
from dcpctl.check.options import CheckOptions
from dcpctl.check.registry import CannotRun
from dcpctl.formats.arrays import distinct
from dcpctl.formats.pickles.standins import PackedTensor
from dcpctl.formats.records import Int64s
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.parallel import Meter, Threads

#: Without `verify_data`: most items that are opened, and most bytes of them that are read whole.
SAMPLE_ITEMS = 2048
SAMPLE_BYTES = 64 << 20
#: What a thread takes at once: enough that taking costs nothing, little enough to share evenly.
_BATCH_ITEMS, _BATCH_BYTES = 64, 16 << 20


@dataclass(slots=True)
class Packed:
    """The tensors of one class that is no plain tensor.

    Attributes:
        first: the first item of them in file order.
        fqns: their entries.
        items: items of them.
    """

    first: ItemReport
    fqns: set[str] = field(default_factory=set)
    items: int = 0


@dataclass(slots=True)
class Scan:
    """What the pass found.

    Attributes:
        reports: of the items that have something to report, in file order.
        items: items of the checkpoint.
        opened: items that were opened.
        verified: items of which every record was read and compared.
        unsummed: opened items that record no checksum.
        bytes_stored: bytes of all items.
        bytes_read: bytes read and compared.
        whole: everything was to be read.
        packed: the tensors of a subclass that were opened, by their class.
        displaced: number of a file -> number of the one whose content it holds; what follows from
            that is not among the reports.
    """

    items: int
    bytes_stored: int
    whole: bool
    reports: list[ItemReport] = field(default_factory=list)
    opened: int = 0
    verified: int = 0
    unsummed: int = 0
    bytes_read: int = 0
    packed: dict[str, Packed] = field(default_factory=dict)
    displaced: dict[int, int] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """How much was looked at, in a sentence."""
        if self.verified == self.items:
            return f"Every byte of {words.count(self.items, 'storage item')} was read."
        of_bytes = f"{words.size(self.bytes_read)} of {words.size(self.bytes_stored)}"
        if self.opened == self.items and not self.whole:
            return (
                f"All {words.count(self.items, 'storage item')} were opened, {self.verified:,} of "
                f"them read whole ({of_bytes}). --verify-data reads everything."
            )
        lost = sum(bool(report.unread) for report in self.reports)
        if self.whole or self.verified + lost == self.items:
            return (
                f"{words.count(self.verified, 'storage item')} of {self.items:,} were read whole "
                f"({of_bytes}); the others could not be, as the findings say."
            )
        return (
            f"A sample was read: {self.opened:,} of {self.items:,} storage items were opened and "
            f"{self.verified:,} of them read whole ({of_bytes}). --verify-data reads everything."
        )

    def require_items(self) -> None:
        """Raise CannotRun if some items could not be read at all, or their form is not known."""
        lost = [report for report in self.reports if report.unread]
        if lost:
            raise CannotRun(
                f"{words.count(len(lost), 'storage item')} could not be read "
                f"({words.some(dict.fromkeys(report.fqn for report in lost))}): {lost[0].unread}"
            )
        if self.displaced:
            raise CannotRun(
                f"{words.count(len(self.displaced), 'file holds', 'files hold')} another file's "
                "content, as DCP212 says"
            )


def scan_items(checkpoint: Checkpoint, items: Items, options: CheckOptions) -> Scan:
    """Read the items that the options ask for."""
    scan = Scan(len(items), items.nbytes, options.verify_data)
    opened, whole = _plan(items, options, checkpoint)
    pass_over = _Pass(checkpoint, items, options, scan, opened, whole)
    pass_over.run()
    scan.reports.sort(key=lambda report: (report.file_number, report.offset))
    suspects = [r.file_number for r in scan.reports if r.malformed or r.unlike or r.unread]
    scan.displaced = find_displaced(checkpoint, items, dict.fromkeys(suspects))
    if scan.displaced:
        scan.reports = [r for r in scan.reports if r.file_number not in scan.displaced]
    return scan


def _values(items: Items, checkpoint: Checkpoint) -> Int64s:
    """The items of objects, and the copies of them that other ranks load."""
    tensors = checkpoint.tensors
    is_value = np.array([name not in tensors for name in items.names], dtype=bool)
    return np.flatnonzero((items.row < 0) & is_value[items.name])


def _plan(
    items: Items, options: CheckOptions, checkpoint: Checkpoint
) -> tuple[Int64s, set[int] | None]:
    """The items to open, in file order, and those to read whole (None: all)."""
    if options.verify_data:
        return np.arange(len(items)), None
    if options.security:
        return np.arange(len(items)), set()
    some = min(len(items), SAMPLE_ITEMS)
    sample = distinct(np.linspace(0, max(len(items) - 1, 0), some).astype(np.int64))
    # torch loads all objects without restriction, and one that runs code is not left to chance.
    opened = distinct(np.concatenate([sample, _values(items, checkpoint)]))
    # Strides of the golden section spread over the files; whatever fits is taken.
    order = np.argsort((np.arange(len(opened)) * 0.6180339887498949) % 1.0, kind="stable")
    left, whole = SAMPLE_BYTES, set()
    for item in opened[order].tolist():
        length = int(items.length[item])
        if 0 <= length <= left:
            left -= length
            whole.add(item)
    return opened, whole


class _Pass:
    """Threads that read batches of items, and what one scan takes of their reports."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        items: Items,
        options: CheckOptions,
        scan: Scan,
        opened: Int64s,
        whole: set[int] | None,
    ) -> None:
        self.items = items
        self.options = options
        self.scan = scan
        self.opened = opened
        self.whole = whole
        self.reader = ItemReader(checkpoint, items)
        total = int(items.length[opened].clip(0).astype(np.float64).sum())
        self.meter = Meter(options.progress, total)

    def run(self) -> None:
        alone = self.meter.total < _BATCH_BYTES
        with Threads(1 if alone else self.options.threads, "check") as threads:
            for reports in threads.in_order(self._read, self._batches()):
                self._take(reports)

    def _read(self, batch: list[int]) -> list[ItemReport]:
        return [
            self.reader.read(item, whole=self.whole is None or item in self.whole) for item in batch
        ]

    def _take(self, reports: list[ItemReport]) -> None:
        scan = self.scan
        for report in reports:
            scan.opened += not report.unread
            scan.verified += report.verified
            scan.unsummed += report.unsummed
            scan.bytes_read += report.bytes_read
            if report.remarkable:
                scan.reports.append(report)
            if report.packed is not None:
                self._take_packed(report, report.packed)
        self.meter.add(sum(max(report.length, 0) for report in reports))

    def _take_packed(self, report: ItemReport, packed: PackedTensor) -> None:
        found = self.scan.packed.setdefault(packed.form or packed.type, Packed(report))
        found.fqns.add(report.fqn)
        found.items += 1
        place = (report.file_number, report.offset)
        if place < (found.first.file_number, found.first.offset):
            found.first = report

    def _batches(self) -> Iterator[list[int]]:
        batch: list[int] = []
        nbytes = 0
        for item in self.opened.tolist():
            batch.append(item)
            nbytes += max(int(self.items.length[item]), 0)
            if len(batch) == _BATCH_ITEMS or nbytes >= _BATCH_BYTES:
                yield batch
                batch, nbytes = [], 0
        if batch:
            yield batch
