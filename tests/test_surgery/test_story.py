"""The stories that this project began with, end to end: torchrun, real optimizers, real losses."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.timeout(240)]

JOB = Path(__file__).with_name("story_job.py")
SEEDS_ERROR = (
    "Missing key in checkpoint state_dict: optimizer.param_groups.0.decoupled_weight_decay."
)


def torchrun(ranks: int, folder: Path, *what: str) -> None:
    """Run the job on some ranks; it must succeed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}"]
    command += ["--master-addr=127.0.0.1", f"--master-port={port}", str(JOB)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, *what, "--dir", str(folder)],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def dcpctl(*arguments: str | Path) -> str:
    """Run dcpctl; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "dcpctl", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder: Path) -> dict[int, list[str]]:
    """Step -> the losses that were seen there, exact, in the order of the log."""
    found: dict[int, list[str]] = {}
    for line in log(folder):
        if "loss" in line:
            found.setdefault(line["step"], []).append(line["loss"])
    return found


def errors(folder: Path, name: str) -> list[str]:
    return [line["error"] for line in log(folder) if line.get("refused") == name]


def hashed(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def same_from(folder: Path, first: int, last: int = 20) -> bool:
    """Whether each of these steps was done at least twice, with the same bits."""
    seen = losses(folder)
    return all(len(seen[step]) > 1 and len(set(seen[step])) == 1 for step in range(first, last))


@pytest.mark.parametrize("strategy", ["fsdp2", "fsdp1"])
def test_a_key_that_old_checkpoints_lack(tmp_path: Path, strategy: str) -> None:
    """20 steps; 10 and an old save; stock load fails; upgrade; 10 more: the same bits."""
    first = ("train:0-20", "restart", "train:0-10", "save-old:old")
    torchrun(2, tmp_path, *first, "--strategy", strategy)
    before = hashed(tmp_path / "old")
    said = dcpctl("upgrade", tmp_path / "old", tmp_path / "new")
    assert "decoupled_weight_decay = True (AdamW, 2 groups)" in said
    torchrun(2, tmp_path, "refuse:old", "load:new", "train:10-20", "--strategy", strategy)
    assert SEEDS_ERROR in errors(tmp_path, "old")[0]
    assert same_from(tmp_path, 0)
    assert hashed(tmp_path / "old") == before


def test_names_that_a_wrapper_changed_and_other_ranks(tmp_path: Path) -> None:
    """Activation checkpointing leaks into the names on 4 ranks; the run goes on without, on 2."""
    leaking = ("--wrapped", "--names", "raw")
    torchrun(4, tmp_path, "train:0-20", "restart", "train:0-10", "save-old:old", *leaking)
    dcpctl("edit", tmp_path / "old", tmp_path / "new", "--upgrade", "--world-size", "2")
    files = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert files == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    torchrun(2, tmp_path, "refuse:old", "load:new", "train:10-20")
    assert "Missing key in checkpoint state_dict" in errors(tmp_path, "old")[0]
    assert same_from(tmp_path, 0)


def test_a_wrapper_that_is_new(tmp_path: Path) -> None:
    """The other way round: names were clean on 4 ranks, and the code that goes on, on 2, leaks."""
    torchrun(4, tmp_path, "train:0-20", "restart", "train:0-10", "save-old:old")
    wrapped = r"layers\.(\d+)\.=layers.\1._checkpoint_wrapped_module."
    edits = ("--upgrade", "--rename-regex", wrapped, "--world-size", "2")
    dcpctl("edit", tmp_path / "old", tmp_path / "new", *edits)
    again = ("refuse:old", "load:new", "train:10-20")
    torchrun(2, tmp_path, *again, "--wrapped", "--names", "raw")
    assert "_checkpoint_wrapped_module" in errors(tmp_path, "old")[0]
    assert same_from(tmp_path, 0)


def test_in_place_and_undo(tmp_path: Path) -> None:
    """The first story in the checkpoint itself; after `undo` it is what it was."""
    torchrun(2, tmp_path, "train:0-20", "restart", "train:0-10", "save-old:run")
    shutil.copytree(tmp_path / "run", tmp_path / "before")
    dcpctl("upgrade", tmp_path / "run", "--in-place")
    torchrun(2, tmp_path, "refuse:before", "load:run", "train:10-20")
    assert SEEDS_ERROR in errors(tmp_path, "before")[0]
    assert same_from(tmp_path, 0)
    dcpctl("undo", tmp_path / "run")
    assert hashed(tmp_path / "run") == hashed(tmp_path / "before")
