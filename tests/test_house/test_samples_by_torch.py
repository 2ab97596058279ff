"""torch itself reads the samples to what their truth says."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import pytest

READABLE = (
    "healthy/step-8500",
    "model_only/step-8500",
    "silent_reset/step-8500",
    "silent_reset/step-9000",
    "silent_reset/step-9500",
    "fsdp_tp_2x2",
    "legacy",
    "zstd",
)


def load(checkpoint: Path) -> dict[str, object]:
    """The checkpoint as one flat dict, read by torch in this process."""
    from torch.distributed.checkpoint._nested_dict import flatten_state_dict
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict_from_keys

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nested = _load_state_dict_from_keys(checkpoint_id=checkpoint)
    return flatten_state_dict(nested)[0]


def digest(tensor: object) -> str:
    import torch

    data = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(data).hexdigest()


@pytest.mark.torch
@pytest.mark.parametrize("name", READABLE)
def test_torch_reads_the_truth(samples: Path, name: str) -> None:
    path = samples / name
    truth = json.loads(path.with_name(path.name + ".expected.json").read_text())["entries"]
    loaded = load(path)
    assert set(loaded) == set(truth)
    for fqn, entry in truth.items():
        if entry["kind"] == "tensor":
            assert list(loaded[fqn].shape) == entry["shape"]
            assert digest(loaded[fqn]) == entry["sha256"], fqn
        else:
            assert type(loaded[fqn]).__name__ == entry["type"].rpartition(".")[2], fqn
