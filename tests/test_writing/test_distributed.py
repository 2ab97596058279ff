"""Several processes under torchrun that share the files of one result."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.surgery.layouts.layout import ReshardOptions, reshard
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.write import write

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.timeout(280)]

JOB = Path(__file__).with_name("ranks_job.py")
WORLD_SIZE = 5


def torchrun(ranks: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}"]
    command += ["--master-addr=127.0.0.1", f"--master-port={port}", str(JOB)]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env={**environment, "GLOO_SOCKET_IFNAME": "lo"},
        timeout=120,
    )


def hashed(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def source(samples: Path) -> Path:
    return samples / "healthy" / "step-8500"


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process writes."""
    return by_one(source, tmp_path_factory.mktemp("one") / "new", resume=False)


def by_one(source: Path, target: Path, *, resume: bool) -> dict[str, str]:
    options = WriteOptions(resume=resume, progress=False)
    with open_checkpoint(source) as checkpoint:
        draft = reshard(Draft.of(checkpoint), ReshardOptions(world_size=WORLD_SIZE))
        write(plan(draft, target, options), options)
    return hashed(target)


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_write_what_one_process_writes(
    source: Path, expected: dict[str, str], tmp_path: Path, ranks: int
) -> None:
    done = torchrun(ranks, source, tmp_path / "new", str(WORLD_SIZE))
    assert done.returncode == 0, done.stderr
    assert hashed(tmp_path / "new") == expected
    assert names(tmp_path) == ["new"]
    assert done.stdout.count("laid out for") == 1


@pytest.mark.parametrize(
    ("rank", "step", "resumed_by"),
    [(1, "sync __", "ranks"), (0, "journal __", "one"), (0, "prove", "ranks")],
)
def test_a_rank_that_is_killed(
    source: Path,
    expected: dict[str, str],
    tmp_path: Path,
    rank: int,
    step: str,
    resumed_by: str,
) -> None:
    """Nothing is published, the source is as it was, and `--resume` ends with the same bytes."""
    before = hashed(source)
    target = tmp_path / "new"
    done = torchrun(2, source, target, str(WORLD_SIZE), "--die", f"{rank}:{step}")
    assert done.returncode != 0
    assert not target.exists()
    assert [name for name in names(tmp_path) if name.startswith(".new.partial-")]
    if resumed_by == "ranks":
        again = torchrun(2, source, target, str(WORLD_SIZE), "--resume")
        assert again.returncode == 0, again.stderr
    else:
        by_one(source, target, resume=True)
    assert hashed(target) == expected
    assert names(tmp_path) == ["new"]
    assert hashed(source) == before


def test_what_one_rank_finds_ends_all(source: Path, tmp_path: Path) -> None:
    """A flipped bit in a file that ranks read together; then a destination that is taken."""
    rotten = tmp_path / "rotten"
    shutil.copytree(source, rotten)
    shard = rotten / "__1_0.distcp"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0x10
    shard.write_bytes(data)
    done = torchrun(2, rotten, tmp_path / "new", str(WORLD_SIZE))
    assert done.returncode != 0
    assert "error[" in done.stderr
    assert names(tmp_path) == ["rotten"]
    done = torchrun(2, source, rotten, str(WORLD_SIZE))
    assert "error[destination-exists]" in done.stderr
    assert "error[rank-failed]" in done.stderr
    assert "terminate called" not in done.stderr
    assert names(tmp_path) == ["rotten"]
