"""Inspecting and checking, against torch and `cat`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.measure import median, paired
from tests.benchmarks.rows import Row, dcpctl, make, scratch

SAMPLE = Path(__file__).resolve().parents[2] / "sample_checkpoints" / "healthy" / "step-8500"
READ_METADATA = (
    "import sys; from torch.distributed.checkpoint import FileSystemReader; "
    "FileSystemReader(sys.argv[1]).read_metadata()"
)


def torch_reads(path: Path) -> list[str | Path]:
    """A process in which torch reads the metadata of `path`."""
    return [sys.executable, "-c", READ_METADATA, path]


def small(runs: int) -> Iterator[Row]:
    """`dcpctl inspect` of a small checkpoint against torch's `read_metadata`."""
    result = paired(dcpctl("inspect", SAMPLE), torch_reads(SAMPLE), runs)
    yield (
        "inspect, small checkpoint: time",
        f"{median([r.wall for r in result.a]):.2f} s",
        f"torch {median([r.wall for r in result.b]):.2f} s",
        f"{result.time_ratio:.3f}",
        "at most 0.15",
    )


def chunks(runs: int) -> Iterator[Row]:
    """`dcpctl inspect` of 1,024,000 chunks against torch's `read_metadata`."""
    with scratch(in_memory=False) as path:
        make("million_chunks", path)
        result = paired(dcpctl("inspect", path), torch_reads(path), runs)
    yield (
        "inspect, 1,024,000 chunks: time",
        f"{median([r.wall for r in result.a]):.2f} s",
        f"torch {median([r.wall for r in result.b]):.2f} s",
        f"{result.time_ratio:.3f}",
        "at most 0.25",
    )
    yield (
        "inspect, 1,024,000 chunks: peak RSS",
        f"{median([r.rss for r in result.a]) / 1e6:.0f} MB",
        f"torch {median([r.rss for r in result.b]) / 1e6:.0f} MB",
        f"{result.rss_ratio:.3f}",
        "at most 0.6",
    )


def verify(runs: int) -> Iterator[Row]:
    """`dcpctl check --verify-data` against `cat` of the same files, both from the page cache."""
    with scratch(in_memory=False) as path:
        make("gigabytes", path)
        files = sorted(path.glob("*.distcp"))
        size = sum(file.stat().st_size for file in files)
        command = dcpctl("check", "--verify-data", path)
        result = paired(command, ["sh", "-c", 'exec cat "$@" >/dev/null', "sh", *files], runs)
    yield (
        f"check --verify-data, {size / 1e9:.1f} GB: throughput",
        f"{size / 1e9 / median([r.wall for r in result.a]):.2f} GB/s",
        f"cat {size / 1e9 / median([r.wall for r in result.b]):.2f} GB/s",
        f"{1 / result.time_ratio:.3f}",
        "at least 0.6",
    )
    yield (
        f"check --verify-data, {size / 1e9:.1f} GB: peak RSS",
        f"{max(r.rss for r in result.a) / 1e6:.0f} MB",
        "",
        "",
        "under 300 MB",
    )
