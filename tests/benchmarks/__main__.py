"""Print the README table: `python -m tests.benchmarks [--runs N] [--only NAME,NAME]`."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.measure import median, paired, run

SAMPLE = Path(__file__).resolve().parents[2] / "sample_checkpoints" / "healthy" / "step-8500"
Row = tuple[str, str, str, str, str]
READ_METADATA = (
    "import sys; from torch.distributed.checkpoint import FileSystemReader; "
    "FileSystemReader(sys.argv[1]).read_metadata()"
)


def dcpctl(*arguments: str | Path) -> list[str | Path]:
    """A `dcpctl` command of this tree."""
    return [sys.executable, "-m", "dcpctl", *arguments]


def torch_reads(path: Path) -> list[str | Path]:
    """A process in which torch reads the metadata of `path`."""
    return [sys.executable, "-c", READ_METADATA, path]


def make(kind: str, directory: Path) -> None:
    """Make an input in a process of its own."""
    subprocess.run([sys.executable, "-m", "tests.benchmarks.inputs", kind, directory], check=True)


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
    with tempfile.TemporaryDirectory(prefix="dcpctl-bench-") as name:
        path = Path(name)
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
    with tempfile.TemporaryDirectory(prefix="dcpctl-bench-") as name:
        path = Path(name)
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


def surgery(runs: int) -> Iterator[Row]:
    """`dcpctl upgrade` and `reshard` of 2.7 GB on 8 ranks, on a RAM-backed filesystem."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="dcpctl-bench-", dir=shm if shm.is_dir() else None
    ) as t:
        whole, source, out, other = (Path(t) / name for name in ("whole", "source", "out", "other"))
        make("training", whole)
        subprocess.run(
            dcpctl("reshard", whole, source, "--world-size", "8"), check=True, capture_output=True
        )
        shutil.rmtree(whole)
        edit = ["--torch", "2.13", "--link", "hardlink", "--overwrite"]
        upgrades = [run(dcpctl("upgrade", source, out, *edit)) for _ in range(runs)]
        shutil.rmtree(out)
        reshard = dcpctl("reshard", source, out, "--world-size", "3", "--overwrite")
        copy = ["sh", "-c", 'rm -rf "$2" && exec cp -r "$1" "$2"', "sh", source, other]
        against_cp = paired(reshard, copy, runs)
        shutil.rmtree(other)
        resave = [sys.executable, "-m", "tests.benchmarks.resave", source, other]
        against_torch = paired(reshard, resave, max(1, runs // 2))
    yield (
        "upgrade --link hardlink, 2.7 GB: time",
        f"{median([r.wall for r in upgrades]):.2f} s",
        "",
        "",
        "at most 1 s",
    )
    for name, result, goal in (
        ("cp -r", against_cp, "at most 1.5"),
        ("torch loads and saves", against_torch, "at most 0.2"),
    ):
        yield (
            "reshard --world-size 3, 2.7 GB: time",
            f"{median([r.wall for r in result.a]):.2f} s",
            f"{name}: {median([r.wall for r in result.b]):.2f} s",
            f"{result.time_ratio:.2f}",
            goal,
        )
    yield (
        "reshard --world-size 3, 2.7 GB: peak RSS",
        f"{max(r.rss for r in against_cp.a) / 1e6:.0f} MB",
        "",
        "",
        "under 300 MB",
    )


BENCHMARKS = {"small": small, "chunks": chunks, "verify": verify, "surgery": surgery}


def main() -> None:
    """Run the benchmarks and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted pairs of runs (default 5)")
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="which, comma-separated")
    options = parser.parse_args()
    from tabulate import tabulate

    rows: list[Row] = []
    for name in options.only.split(","):
        print(f"{name}: {BENCHMARKS[name].__doc__}", file=sys.stderr)
        rows += BENCHMARKS[name](options.runs)
    headers = ("what", "dcpctl", "against", "ratio", "goal")
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
