"""The work on output files in portions that threads take, and the threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dcpctl.writing.segments import CopyItem, OutputFile, Segment

#: Portions have about this many bytes, so that small items do not cost a turn each.
BATCH_BYTES = 4 << 20
_BATCH_SEGMENTS = 512


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Consecutive segments of one output file.

    Attributes:
        file: number of the file.
        index: number of the batch in the file.
        segments: by position.
        last: no further batch of the file follows.
    """

    file: int
    index: int
    segments: list[Segment]
    last: bool

    @property
    def stop(self) -> int:
        """The byte of the file after its last segment."""
        return self.segments[-1].at + self.segments[-1].length if self.segments else 0


def batches_of(number: int, file: OutputFile) -> Iterator[Batch]:
    """Divide a file's segments; a file without any gives one empty batch."""
    held: list[Segment] = []
    size = index = 0
    for segment in every_byte(file) if file.link is not None else file.segments:
        if held and (size + segment.length > BATCH_BYTES or len(held) >= _BATCH_SEGMENTS):
            yield Batch(number, index, held, last=False)
            held, size = [], 0
            index += 1
        held.append(segment)
        size += segment.length
    yield Batch(number, index, held, last=True)


def every_byte(file: OutputFile) -> Iterator[Segment]:
    """The items of a file that is taken over whole, and what lies between them.

    Items that overlap are each given, so that the checksums of both are compared.
    """
    position = 0
    for item in file.segments:
        if item.at > position:
            yield _between(file, position, item.at)
        yield item
        position = max(position, item.at + item.length)
    if position < file.size:
        yield _between(file, position, file.size)


def _between(file: OutputFile, start: int, stop: int) -> CopyItem:
    return CopyItem(start, stop - start, file.source, start, "none", (), file.name)


def run_threads(count: int, files: Iterable[Iterable[Batch]], act: Callable[[Batch], None]) -> None:
    """Do all the work with `count` threads, each in a file of its own as long as there are enough.

    Two threads that write to one file wait for each other: the kernel locks it for every write.

    Args:
        count: number of threads.
        files: the batches of each file; asked for one at a time.
        act: does one batch.

    Raises:
        The first error that `act` raised; the others stop as soon as they can.
    """
    pool = _Pool(files, act)
    threads = [threading.Thread(target=pool.run, daemon=True) for _ in range(count - 1)]
    for thread in threads:
        thread.start()
    try:
        pool.run()
        for thread in threads:
            thread.join()
    except BaseException as error:  # an interrupt of the main thread
        pool.stop(error)
        for thread in threads:
            thread.join()
        raise
    if pool.error is not None:
        raise pool.error


class _Pool:
    def __init__(self, files: Iterable[Iterable[Batch]], act: Callable[[Batch], None]) -> None:
        self.error: BaseException | None = None
        self._untouched = iter(files)
        self._begun: list[Iterator[Batch]] = []
        self._act = act
        self._lock = threading.Lock()

    def stop(self, error: BaseException) -> None:
        with self._lock:
            self.error = self.error or error

    def run(self) -> None:
        own: Iterator[Batch] | None = None
        try:
            while (found := self._take(own)) is not None:
                own, batch = found
                self._act(batch)
        except Exception as error:  # handed on to the thread that waits
            self.stop(error)

    def _take(self, own: Iterator[Batch] | None) -> tuple[Iterator[Batch], Batch] | None:
        """The next batch of the thread's own file, else of a new one, else of another's."""
        with self._lock:
            while self.error is None:
                file = own or self._begin() or next(iter(self._begun), None)
                if file is None:
                    break
                batch = next(file, None)
                if batch is not None:
                    return file, batch
                if file in self._begun:
                    self._begun.remove(file)
                own = None
        return None

    def _begin(self) -> Iterator[Batch] | None:
        batches = next(self._untouched, None)
        if batches is None:
            return None
        self._begun.append(iter(batches))
        return self._begun[-1]
