"""Comparing two checkpoints, against `cmp` and against looking at one of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

from tests.benchmarks.measure import Run, median, paired, run
from tests.benchmarks.rows import Row, dcpctl, make, scratch


def diff(runs: int) -> Iterator[Row]:
    """`dcpctl diff` of 2.7 GB and its copy, with and without checksums, and of 1,024,000 chunks."""
    yield from _equal_by_checksums(runs)
    yield from _all_read(runs)
    yield from _structure(runs)


def _equal_by_checksums(runs: int) -> Iterator[Row]:
    with scratch(in_memory=True) as directory:
        whole, a, b = (directory / name for name in ("whole", "a", "b"))
        make("training", whole)
        reshard = dcpctl("reshard", whole, a, "--world-size", "8")
        subprocess.run(reshard, check=True, capture_output=True)
        shutil.rmtree(whole)
        shutil.copytree(a, b)
        for options in ((), ("--values",)):
            command = dcpctl("diff", *options, a, b)
            run(command)
            wall = _wall([run(command) for _ in range(runs)])
            name = " ".join(("diff", *options))
            what = f"{name}, 2.7 GB twice, equal by checksums: time"
            yield what, f"{wall:.2f} s", "", "", "at most 1 s"


def _all_read(runs: int) -> Iterator[Row]:
    """Without checksums every byte has to be read, as `cmp` does."""
    with scratch(in_memory=True) as directory:
        a, b = directory / "a", directory / "b"
        make("unsummed", a)
        shutil.copytree(a, b)
        (file,) = a.glob("*.distcp")
        size = 2 * file.stat().st_size / 1e9
        result = paired(dcpctl("diff", "--values", a, b), ["cmp", file, b / file.name], runs)
        by_cmp = f"cmp {size / _wall(result.b):.2f} GB/s"
        yield (
            "diff --values, 2.7 GB twice, all read, equal: throughput",
            f"{size / _wall(result.a):.2f} GB/s",
            by_cmp,
            f"{1 / result.time_ratio:.2f}",
            "at least 0.5",
        )
        shutil.rmtree(b)
        make("unsummed_other", b)
        command = dcpctl("diff", "--values", "--exit-zero", a, b)
        other = [run(command) for _ in range(max(1, runs // 2))]
        yield (
            "diff --values, 2.7 GB twice, all numbers differ: throughput",
            f"{size / _wall(other):.2f} GB/s",
            f"{by_cmp} of equal files",
            f"{_wall(result.b) / _wall(other):.2f}",
            "",
        )
        peak = f"{max(r.rss for r in [*result.a, *other]) / 1e6:.0f} MB"
        yield "diff --values, 2.7 GB twice: peak RSS", peak, "", "", "under 300 MB"


def _structure(runs: int) -> Iterator[Row]:
    with scratch(in_memory=True) as directory:
        a, b = directory / "a", directory / "b"
        a.mkdir()
        make("million_chunks", a)
        shutil.copytree(a, b)
        result = paired(dcpctl("diff", a, b), dcpctl("inspect", a), runs)
    yield (
        "diff, 1,024,000 chunks twice: time",
        f"{_wall(result.a):.2f} s",
        f"inspect of one {_wall(result.b):.2f} s",
        f"{result.time_ratio:.2f}",
        "at most 2.2",
    )


def _wall(runs: list[Run]) -> float:
    return median([r.wall for r in runs])
