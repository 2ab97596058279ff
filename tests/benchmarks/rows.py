"""What the benchmarks share: rows of the table, commands, inputs and where they lie."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: What was measured, dcpctl's figure, the other's, their ratio, and what it should be.
Row = tuple[str, str, str, str, str]


def dcpctl(*arguments: str | Path) -> list[str | Path]:
    """A `dcpctl` command of this tree."""
    return [sys.executable, "-m", "dcpctl", *arguments]


def make(kind: str, directory: Path) -> None:
    """Make an input in a process of its own."""
    subprocess.run([sys.executable, "-m", "tests.benchmarks.inputs", kind, directory], check=True)


@contextmanager
def scratch(*, in_memory: bool) -> Iterator[Path]:
    """A directory for the time of a benchmark, if wished where no disk decides."""
    shm = Path("/dev/shm")
    root = shm if in_memory and shm.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="dcpctl-bench-", dir=root) as name:
        yield Path(name)
