"""Whole processes, timed in pairs."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One finished process: wall seconds, and peak resident memory in bytes."""

    wall: float
    rss: int


@dataclass(frozen=True)
class Paired:
    """Two commands run in turn, A B A B ...; the ratios are pair by pair."""

    a: list[Run]
    b: list[Run]

    @property
    def time_ratio(self) -> float:
        """Median of A's time over B's."""
        return statistics.median(x.wall / y.wall for x, y in zip(self.a, self.b, strict=True))

    @property
    def rss_ratio(self) -> float:
        """Median of A's peak memory over B's."""
        return statistics.median(x.rss / y.rss for x, y in zip(self.a, self.b, strict=True))


def run(command: Sequence[str | Path]) -> Run:
    """Run a command to its end; its output is thrown away.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    # Whoever installs a package has its bytecode; a tree that may not keep it compiles every time.
    keep = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=keep)
    assert process.stderr is not None
    error = process.stderr.read()
    process.stderr.close()
    _pid, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(
            process.returncode, [str(c) for c in command], None, error
        )
    return Run(wall, usage.ru_maxrss * 1024)


def paired(
    a: Sequence[str | Path],
    b: Sequence[str | Path],
    runs: int,
    before: Callable[[], object] = lambda: None,
) -> Paired:
    """Run A and B in turn, `runs` times each after one warm-up of both.

    `before` is called before each, and not timed.
    """

    def once(command: Sequence[str | Path]) -> Run:
        before()
        return run(command)

    once(a), once(b)
    results = [(once(a), once(b)) for _ in range(runs)]
    return Paired([x for x, _ in results], [y for _, y in results])


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)
