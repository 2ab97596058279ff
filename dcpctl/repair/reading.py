"""Items read by several threads, and how far that has come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dcpctl.repair.options import RepairOptions

Job = TypeVar("Job")
Result = TypeVar("Result")
#: What a thread takes at once, at most: enough that taking costs nothing.
_BATCH = 32


class Counter:
    """Counts bytes read; told from any thread.

    Args:
        options: has the progress to tell.
        total: bytes to read.
    """

    def __init__(self, options: RepairOptions, total: int) -> None:
        self._progress = options.progress
        self._total = max(total, 1)
        self._done = 0
        self._lock = threading.Lock()

    def add(self, amount: int) -> None:
        """Count `amount` more."""
        if self._progress is not None:
            with self._lock:
                self._done += amount
                self._progress(min(self._done, self._total), self._total)


def in_threads(
    jobs: Sequence[Job], do: Callable[[Job], Result], options: RepairOptions
) -> list[Result]:
    """Do all jobs and return what came of each, in their order.

    Raises:
        What `do` raises first; the other threads end after their batch.
    """
    if options.threads == 1 or len(jobs) < 2:
        return [do(job) for job in jobs]
    size = max(1, min(_BATCH, len(jobs) // (4 * options.threads)))
    results: list[list[Result]] = []
    stopped = threading.Event()

    def batch(first: int) -> list[Result]:
        return [do(job) for job in jobs[first : first + size] if not stopped.is_set()]

    with ThreadPoolExecutor(options.threads, thread_name_prefix="dcpctl-repair") as pool:
        try:
            starts = range(0, len(jobs), size)
            results = list(pool.map(batch, starts))
        finally:
            stopped.set()  # after an interrupt the other threads shall not read on
    return [result for part in results for result in part]
