"""The jobs on two ranks, run once whatever the number of test processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.test_training.torchruns import torchrun

JOB = Path(__file__).with_name("guard_job.py")


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where guard_job.py ran: its checkpoints, and what each rank saw."""
    filelock = pytest.importorskip("filelock")  # torch's own dependency
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # that of all test processes
    folder = base / "guard"
    with filelock.FileLock(base / "guard.lock"):
        if not (folder / "rank0.json").exists():
            folder.mkdir(exist_ok=True)
            torchrun(JOB, folder)
    return folder
