"""The shard files of a result, written by threads into the staging directory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dcpctl.formats import dtypes
from dcpctl.formats.crc import crc32, crc32_range
from dcpctl.formats.torch_zip_emit import tensor_item
from dcpctl.model.draft import Fill
from dcpctl.writing.batches import Batch, batches_of, run_threads
from dcpctl.writing.copying import ItemCopier
from dcpctl.writing.gather import Gatherer
from dcpctl.writing.ledger import Ledger, Record
from dcpctl.writing.opened import ChunkOpener
from dcpctl.writing.segments import CopyItem, NewBytes, NewTensor, OutputFile
from dcpctl.writing.sink import BUFFER_BYTES, Sink, write_failed
from dcpctl.writing.sources import Sources
from dcpctl.writing.steps import step


@dataclass(slots=True)
class _Open:
    """An output file that is being written: its descriptor, and the batches not done yet."""

    fd: int
    pending: int = 0
    whole: bool = False
    written: int = 0


@dataclass(slots=True)
class Tally:
    """What was written, counted while it was.

    Attributes:
        bytes: of all segments.
        elements: numbers in the tensors that were written anew.
        files: name -> bytes of every file that is finished.
    """

    bytes: int = 0
    elements: int = 0
    files: dict[str, int] = field(default_factory=dict)


class FileWriter:
    """Writes output files item by item.

    Args:
        sources: of the plan.
        directory: where the files go.
        finished: called with each file once it is on disk.
        advance: called with the bytes of each segment that was written.
    """

    def __init__(
        self,
        sources: Sources,
        directory: Path,
        finished: Callable[[OutputFile], None],
        advance: Callable[[int], None],
    ) -> None:
        self.ledger = Ledger()
        self.tally = Tally()
        self._sources = sources
        self._directory = directory
        self._finished = finished
        self._advance = advance
        self._lock = threading.Lock()
        self._transforming = threading.RLock()
        self._open: dict[int, _Open] = {}
        self._local = threading.local()
        self._opener = ChunkOpener(sources, self.ledger)
        self._gatherer = Gatherer(self._opener, self.ledger)
        self._copier = ItemCopier(sources, self._transforming)

    def write(self, files: Iterable[tuple[int, OutputFile]], threads: int) -> None:
        """Write the files, each with its number.

        Raises:
            As `ItemCopier.copy` and `Gatherer.write`; ReadFailed if writing fails.
        """
        known = list(files)
        by_number = dict(known)
        work = (self._batches(number, file) for number, file in known)
        try:
            run_threads(threads, work, lambda batch: self._run(batch, by_number[batch.file]))
        finally:
            for held in self._open.values():
                os.close(held.fd)
            self._open.clear()

    def verify_unread(self, threads: int, part: int = 0, parts: int = 1) -> None:
        """Compare the checksums of the records that were read only in part.

        Args:
            threads: that read.
            part: which share of the records, where several processes divide them.
            parts: number of shares.

        Raises:
            ChecksumMismatch: one is not what is recorded.
        """
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(self._verify, list(self.ledger.unread())[part::parts]):
                pass

    def _verify(self, record: Record) -> None:
        file = self._sources.files[record.source]
        record.compare(crc32_range(file.storage, file.name, record.offset, record.size))

    def expect(self, file: OutputFile) -> None:
        """Have the checksums of all that a file was made of compared, without writing it."""
        for segment in file.segments:
            if isinstance(segment, NewTensor) and not isinstance(segment.source, Fill):
                with self._transforming:
                    self._gatherer.parts(segment.source, segment.starts, segment.sizes)

    # -- one file ---------------------------------------------------------------------------------

    def _batches(self, number: int, file: OutputFile) -> Iterator[Batch]:
        """Create a file and give out its batches; under the pool's lock, one thread at a time."""
        step(f"create {file.name}")
        try:
            fd = os.open(
                self._directory / file.name,
                os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC,
                0o666,
            )
        except OSError as error:
            raise write_failed(file.name, error) from None
        held = _Open(fd)
        with self._lock:
            self._open[number] = held
        for batch in batches_of(number, file):
            with self._lock:
                held.pending += 1
                held.whole = batch.last
            yield batch

    def _run(self, batch: Batch, file: OutputFile) -> None:
        held = self._open[batch.file]
        buffer = self._buffer()
        sink: Sink | None = None
        for segment in batch.segments:
            if sink is None or sink.position != segment.at:
                if sink is not None:
                    sink.flush()
                sink = Sink(held.fd, file.name, segment.at, buffer)
            self._write(segment, sink)
            if sink.position != segment.at + segment.length:
                raise AssertionError(f"{segment.subject}: an item of another size than planned")
            self._advance(segment.length)
        if sink is not None:
            sink.flush()
        with self._lock:
            held.pending -= 1
            self.tally.bytes += sum(segment.length for segment in batch.segments)
            done = held.whole and not held.pending
        if done:
            self._finish(batch.file, file, held)

    def _finish(self, number: int, file: OutputFile, held: _Open) -> None:
        step(f"sync {file.name}")
        try:
            os.fsync(held.fd)
            size = os.fstat(held.fd).st_size
        except OSError as error:
            raise write_failed(file.name, error) from None
        with self._lock:
            del self._open[number]
            self.tally.files[file.name] = size
        os.close(held.fd)
        self._finished(file)

    def _buffer(self) -> memoryview:
        view: memoryview | None = getattr(self._local, "view", None)
        if view is None:
            view = self._local.view = memoryview(bytearray(BUFFER_BYTES))
        return view

    # -- one segment ------------------------------------------------------------------------------

    def _write(self, segment: CopyItem | NewTensor | NewBytes, sink: Sink) -> None:
        if isinstance(segment, CopyItem):
            self._copier.copy(segment, sink)
        elif isinstance(segment, NewBytes):
            sink.put(segment.data)
        elif not isinstance(segment.source, Fill) and segment.source.stored.transforms:
            with self._transforming:
                self._tensor(segment, sink)
        else:
            self._tensor(segment, sink)

    def _tensor(self, segment: NewTensor, sink: Sink) -> None:
        layout = tensor_item(segment.dtype, segment.sizes)
        sink.put(layout.prefix)
        if isinstance(segment.source, Fill):
            crc = _fill(segment.source, segment.dtype, layout.data_bytes, sink)
        else:
            crc = self._gatherer.write(segment, segment.source, sink)
        sink.put(layout.suffix(crc))
        with self._lock:
            self.tally.elements += layout.data_bytes // dtypes.itemsize(segment.dtype)


def _fill(fill: Fill, dtype: str, length: int, sink: Sink) -> int:
    """Write one number over and over and return the CRC-32 of it all."""
    one = np.full(1, fill.number, dtype=dtypes.numpy_dtype(dtype)).tobytes()
    crc = 0
    block = one * max(1, min(length, BUFFER_BYTES // 2) // len(one))
    while length > 0:
        part = block[: min(length, len(block))]
        crc = crc32(part, crc)
        sink.put(part)
        length -= len(part)
    return crc
