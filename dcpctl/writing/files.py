"""The shard files of a result, written by threads into the staging directory."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dcpctl.formats import dtypes
from dcpctl.formats.crc import crc32_range
from dcpctl.formats.torch_zip_emit import tensor_item
from dcpctl.parallel import Threads, run_streams
from dcpctl.writing.batches import Batch, batches_of
from dcpctl.writing.chunks import ChunkOpener
from dcpctl.writing.copying import ItemCopier
from dcpctl.writing.gather import Gatherer
from dcpctl.writing.ledger import Ledger, Record
from dcpctl.writing.segments import CopyItem, NewBytes, NewTensor, OutputFile, Segment
from dcpctl.writing.sink import BUFFER_BYTES, Sink, write_failed
from dcpctl.writing.sources import Sources
from dcpctl.writing.staging import met
from dcpctl.writing.steps import step

#: Bytes of a file after which what is written so far is put on disk and noted, for `--resume`.
PART_BYTES = 1 << 30


@dataclass(slots=True)
class _Open:
    """An output file that is being written.

    Attributes:
        fd: its descriptor.
        pending: batches that were given out and are not done.
        whole: all were given out.
        upto: bytes from its start on that are written.
        noted: such bytes that were noted.
    """

    fd: int
    pending: int = 0
    whole: bool = False
    upto: int = 0
    noted: int = 0
    _next: int = 0
    _stops: dict[int, int] = field(default_factory=dict)

    def done(self, batch: Batch) -> None:
        """Count a batch as written; others before it may not be yet."""
        self._stops[batch.index] = batch.stop
        while self._next in self._stops:
            self.upto = self._stops.pop(self._next)
            self._next += 1


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
        begun: file name -> bytes from its start on that an earlier run has put on disk.
        reached: called with a file's name and as many bytes of it as are on disk.
    """

    def __init__(
        self,
        sources: Sources,
        directory: Path,
        finished: Callable[[OutputFile], None],
        advance: Callable[[int], None],
        *,
        begun: Mapping[str, int] | None = None,
        reached: Callable[[str, int], None] | None = None,
    ) -> None:
        self.ledger = Ledger()
        self.tally = Tally()
        self._sources = sources
        self._directory = directory
        self._finished = finished
        self._advance = advance
        self._begun = begun or {}
        self._reached = reached
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
            run_streams(threads, work, lambda batch: self._run(batch, by_number[batch.file]))
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
        with Threads(threads, "verify") as pool:
            for _ in pool.in_order(self._verify, list(self.ledger.unread())[part::parts]):
                pass

    def _verify(self, record: Record) -> None:
        file = self._sources.files[record.source]
        record.compare(crc32_range(file.storage, file.name, record.offset, record.size))

    def expect(self, segments: Iterable[Segment]) -> None:
        """Have the checksums of all that was written by an earlier run compared."""
        for segment in segments:
            if isinstance(segment, NewTensor) and segment.entries:
                with self._transforming:
                    self._gatherer.expect(segment)

    # -- one file ---------------------------------------------------------------------------------

    def _batches(self, number: int, file: OutputFile) -> Iterator[Batch]:
        """Create a file and give out its batches; under the pool's lock, one thread at a time."""
        step(f"create {file.name}")
        begun = self._begun.get(file.name, 0)
        try:
            fd = os.open(
                self._directory / file.name,
                os.O_RDWR | os.O_CREAT | (0 if begun else os.O_EXCL) | os.O_CLOEXEC,
                0o666,
            )
            if begun > os.fstat(fd).st_size:
                begun = 0
        except FileExistsError:
            raise met(self._directory / file.name) from None
        except OSError as error:
            raise write_failed(file.name, error) from None
        held = _Open(fd)
        with self._lock:
            self._open[number] = held
        for batch in batches_of(number, file):
            if batch.stop <= begun and not batch.last:
                self._skip(batch, held)
                continue
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
        self._note_part(batch, file, held)
        with self._lock:
            held.pending -= 1
            self.tally.bytes += sum(segment.length for segment in batch.segments)
            done = held.whole and not held.pending
        if done:
            self._finish(batch.file, file, held)

    def _skip(self, batch: Batch, held: _Open) -> None:
        """Take over what an earlier run has written."""
        self.expect(batch.segments)
        with self._lock:
            held.done(batch)
            held.noted = held.upto
            for segment in batch.segments:
                if isinstance(segment, NewTensor):
                    self.tally.elements += math.prod(segment.sizes)

    def _note_part(self, batch: Batch, file: OutputFile, held: _Open) -> None:
        """Put on disk what is written of a long file, and have it noted, now and then."""
        with self._lock:
            held.done(batch)
            upto = held.upto
            if self._reached is None or batch.last or upto - held.noted < PART_BYTES:
                return
            held.noted = upto
        step(f"sync part of {file.name}")
        try:
            os.fdatasync(held.fd)
        except OSError as error:
            raise write_failed(file.name, error) from None
        self._reached(file.name, upto)

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
        elif any(entry.stored.transforms for entry in segment.entries):
            with self._transforming:
                self._tensor(segment, sink)
        else:
            self._tensor(segment, sink)

    def _tensor(self, segment: NewTensor, sink: Sink) -> None:
        layout = None if segment.bare else tensor_item(segment.dtype, segment.sizes)
        nbytes = segment.length if layout is None else layout.data_bytes
        if layout is not None:
            sink.put(layout.prefix)
        crc = self._gatherer.write(segment, sink)
        if layout is not None:
            sink.put(layout.suffix(crc))
        with self._lock:
            self.tally.elements += nbytes // dtypes.itemsize(segment.dtype)
