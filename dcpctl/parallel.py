"""Work side by side in threads, where it reads or sums.

Whatever is given out is bounded, comes back in order, and ends early when one piece of it raises
or the main thread is interrupted.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Generic, TypeVar

Job = TypeVar("Job")
T = TypeVar("T")
Advance = Callable[[int, int], None]

#: Most threads by default; more do not read faster from a page cache.
MOST_THREADS = 8
#: Jobs given out per thread before the first of them is asked for.
_AHEAD = 4
#: Small jobs that a thread takes at once: enough that taking costs nothing.
_SMALL = 32


def threads_for(jobs: int | None) -> int:
    """How many threads a user's `--jobs` means: as many as processors, at most 8, if None."""
    return max(1, jobs or min(os.cpu_count() or 1, MOST_THREADS))


class Threads:
    """Threads that share work. A context manager: at its end none of them works any more.

    Args:
        count: how many; one means that the calling thread does the work, when it is asked for.
        name: of the threads, as a debugger shows it.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._pool = ThreadPoolExecutor(count, f"dcpctl-{name}") if count > 1 else None

    def __enter__(self) -> Threads:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def in_order(
        self, call: Callable[[Job], T], jobs: Iterable[Job], *, at_once: int = 1
    ) -> Iterator[T]:
        """Yield what `call` makes of each job, in their order.

        Args:
            call: may run in any thread, several at a time.
            jobs: asked for some ahead of what is yielded, in the calling thread.
            at_once: jobs that a thread takes at a time; more than one where they are small.

        Raises:
            Exception: what `call` raises, where its result would have stood.
        """
        if self._pool is None:
            yield from map(call, jobs)
            return
        ahead: deque[Future[list[T]]] = deque()
        left = iter(jobs)
        try:
            while batch := list(islice(left, at_once)):
                ahead.append(self._pool.submit(_all, call, batch))
                if len(ahead) > _AHEAD * self._count:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def map_all(call: Callable[[Job], T], jobs: Sequence[Job], count: int) -> list[T]:
    """Return what `call` makes of each job, in their order; many small ones cost little.

    Raises:
        Exception: what `call` raises first in that order.
    """
    with Threads(count if len(jobs) > 1 else 1, "jobs") as threads:
        at_once = max(1, min(_SMALL, len(jobs) // (_AHEAD * count)))
        return list(threads.in_order(call, jobs, at_once=at_once))


def _all(call: Callable[[Job], T], batch: list[Job]) -> list[T]:
    return [call(job) for job in batch]


class Meter:
    """Counts what is done and tells of it; may be called from any thread.

    Args:
        progress: told how much is done, and of how much; None for nobody.
        total: that is to be done.
    """

    def __init__(self, progress: Advance | None, total: int) -> None:
        self.total = total
        self._progress = progress
        self._done = 0
        self._lock = threading.Lock()

    def add(self, amount: int) -> None:
        """Count `amount` more."""
        if self._progress is not None:
            with self._lock:
                self._done += amount
                self._progress(min(self._done, self.total), self.total)


def run_streams(count: int, streams: Iterable[Iterable[Job]], act: Callable[[Job], None]) -> None:
    """Do all jobs with `count` threads, each in a stream of its own while there are enough.

    Two threads that write to one file wait for each other: the kernel locks it for every write.

    Args:
        count: number of threads; the calling one is among them.
        streams: the jobs of each stream, as of one file; both asked for one at a time.
        act: does one job.

    Raises:
        Exception: the first that `act` raised; the others stop as soon as they can.
    """
    pool = _Streams(streams, act)
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


class _Streams(Generic[Job]):
    def __init__(self, streams: Iterable[Iterable[Job]], act: Callable[[Job], None]) -> None:
        self.error: BaseException | None = None
        self._untouched = iter(streams)
        self._begun: list[Iterator[Job]] = []
        self._act = act
        self._lock = threading.Lock()

    def stop(self, error: BaseException) -> None:
        with self._lock:
            self.error = self.error or error

    def run(self) -> None:
        own: Iterator[Job] | None = None
        try:
            while (found := self._take(own)) is not None:
                own, job = found
                self._act(job)
        except Exception as error:  # handed on to the thread that waits
            self.stop(error)

    def _take(self, own: Iterator[Job] | None) -> tuple[Iterator[Job], Job] | None:
        """The next job of the thread's own stream, else of a new one, else of another's."""
        with self._lock:
            while self.error is None:
                stream = own or self._begin() or next(iter(self._begun), None)
                if stream is None:
                    break
                for job in stream:
                    return stream, job
                if stream in self._begun:
                    self._begun.remove(stream)
                own = None
        return None

    def _begin(self) -> Iterator[Job] | None:
        for stream in self._untouched:
            self._begun.append(iter(stream))
            return self._begun[-1]
        return None
