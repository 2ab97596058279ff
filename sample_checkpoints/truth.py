"""What a checkpoint must read back to, taken from the state in memory before it is saved.

`X.expected.json` beside a checkpoint X holds `entries`, FQN -> `{kind: "tensor", shape, dtype,
nbytes, sha256}` (of the contiguous full tensor's little-endian bytes) or `{kind: "object", type,
value}` (`{"__tuple__": [...]}` for a tuple), and `mappings`, FQN -> object path.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.tensor import DTensor


def describe(state: dict[str, Any]) -> dict[str, Any]:
    """Return the truth about a state dict; every rank must call it, as DTensors are gathered."""
    flat, mappings = flatten_state_dict(state)
    return {
        "torch_version": torch.__version__,
        "world_size": dist.get_world_size(),
        "entries": {fqn: _entry(value) for fqn, value in flat.items()},
        "mappings": {fqn: list(path) for fqn, path in mappings.items()},
    }


def _entry(value: object) -> dict[str, Any]:
    if not isinstance(value, torch.Tensor):
        kind = type(value)
        return {
            "kind": "object",
            "type": f"{kind.__module__}.{kind.__qualname__}",
            "value": _json(value),
        }
    full = value.full_tensor() if isinstance(value, DTensor) else value
    data = full.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return {
        "kind": "tensor",
        "shape": list(full.shape),
        "dtype": str(full.dtype).removeprefix("torch."),
        "nbytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _json(value: object) -> Any:
    if isinstance(value, tuple):
        return {"__tuple__": [_json(item) for item in value]}
    if isinstance(value, list):
        return [_json(item) for item in value]
    return value


def write(checkpoint: Path, truth: dict[str, Any]) -> None:
    """Write `truth` beside `checkpoint`."""
    path = checkpoint.with_name(checkpoint.name + ".expected.json")
    path.write_text(json.dumps(truth, separators=(",", ":")) + "\n")
