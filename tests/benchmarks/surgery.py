"""Upgrading and resharding, against `cp -r` and torch, on a RAM-backed filesystem."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.measure import Paired, median, paired, run
from tests.benchmarks.rows import Row, dcpctl, make, scratch

RANKS = 8


def surgery(runs: int) -> Iterator[Row]:
    """`dcpctl upgrade` and `reshard` of 2.7 GB on 8 ranks."""
    with scratch(in_memory=True) as directory:
        source, out = _source("training", directory), directory / "out"
        edit = ["--torch", "2.13", "--link", "hardlink", "--overwrite"]
        upgrades = [run(dcpctl("upgrade", source, out, *edit)) for _ in range(runs)]
        yield _single(
            "upgrade --link hardlink, 2.7 GB: time",
            f"{median([r.wall for r in upgrades]):.2f} s",
            "at most 1 s",
        )
        reshard = dcpctl("reshard", source, out, "--world-size", "3")
        against = paired(reshard, ["cp", "-r", source, out], runs, _without(out))
        yield _pair("reshard --world-size 3, 2.7 GB: time", "cp -r", against, "at most 1.5")
        resave = [sys.executable, "-m", "tests.benchmarks.resave", source, out]
        against_torch = paired(reshard, resave, runs, _without(out))
        name = "torch loads and saves"
        yield _pair("reshard --world-size 3, 2.7 GB: time", name, against_torch, "at most 0.2")
        yield _single("reshard --world-size 3, 2.7 GB: peak RSS", _peak(against), "under 300 MB")


def twice(runs: int) -> Iterator[Row]:
    """`dcpctl reshard` of 5.4 GB on 8 ranks."""
    with scratch(in_memory=True) as directory:
        source, out = _source("training_twice", directory), directory / "out"
        reshard = dcpctl("reshard", source, out, "--world-size", "3")
        against = paired(reshard, ["cp", "-r", source, out], runs, _without(out))
    yield _pair("reshard --world-size 3, 5.4 GB: time", "cp -r", against, "at most 1.5")
    yield _single("reshard --world-size 3, 5.4 GB: peak RSS", _peak(against), "as with 2.7 GB")


def torchrun(runs: int) -> Iterator[Row]:
    """`torchrun -m dcpctl reshard` with four ranks against one."""
    with scratch(in_memory=True) as directory:
        source, out = _source("training", directory), directory / "out"
        reshard = ["-m", "dcpctl", "reshard", source, out, "--world-size", "8"]
        launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]
        four, one = [*launch, "4", *reshard], [*launch, "1", *reshard]
        against = paired(four, one, runs, _without(out))
    yield _pair("torchrun with 4 ranks, reshard of 2.7 GB: time", "1 rank", against, "")


def _source(kind: str, directory: Path) -> Path:
    """Make an input and lay it out for eight ranks."""
    whole, source = directory / "whole", directory / "source"
    make(kind, whole)
    command = dcpctl("reshard", whole, source, "--world-size", str(RANKS))
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(whole)
    return source


def _without(out: Path) -> Callable[[], None]:
    """Removes what the run before has written, so that every run finds the same free memory."""
    return lambda: shutil.rmtree(out, ignore_errors=True)


def _single(what: str, figure: str, goal: str) -> Row:
    return (what, figure, "", "", goal)


def _pair(what: str, other: str, result: Paired, goal: str) -> Row:
    return (
        what,
        f"{median([r.wall for r in result.a]):.2f} s",
        f"{other}: {median([r.wall for r in result.b]):.2f} s",
        f"{result.time_ratio:.2f}",
        goal,
    )


def _peak(result: Paired) -> str:
    return f"{max(r.rss for r in result.a) / 1e6:.0f} MB"
