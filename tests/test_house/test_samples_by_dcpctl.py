"""dcpctl reads every sample to what its truth says, with and without torch installed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import dcpctl

SAMPLES = Path(__file__).resolve().parents[2] / "sample_checkpoints"
TRUTHS = sorted(SAMPLES.rglob("*.expected.json"))


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda path: path.name.split(".expected")[0])
def test_dcpctl_reads_the_truth(truth: Path) -> None:
    entries = json.loads(truth.read_text())["entries"]
    with dcpctl.open_checkpoint(truth.with_name(truth.name.removesuffix(".expected.json"))) as ckpt:
        assert set(ckpt) == set(entries)
        for fqn, expected in entries.items():
            entry = ckpt[fqn]
            if expected["kind"] == "tensor":
                assert (list(entry.shape), entry.dtype) == (expected["shape"], expected["dtype"])
                assert hashlib.sha256(entry.numpy().tobytes()).hexdigest() == expected["sha256"]
            else:
                assert entry.type == expected["type"], fqn
