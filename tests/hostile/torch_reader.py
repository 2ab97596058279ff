"""A process that lets torch load hostile checkpoints, each in a child that dies of it.

`python -m tests.hostile.torch_reader` imports torch once and forks for each line of stdin, the path
of a checkpoint. The child loads all of it as `dcp_to_torch_save` does, payloads included: what they
do is to create a file beside the checkpoint. The answer is a JSON line: the error, or what each key
holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import warnings
from typing import Any

#: Seconds of processor time and bytes of address space after which torch counts as failed.
SECONDS, ADDRESS_SPACE = 20, 8 << 30


def load(path: str) -> dict[str, Any]:
    """Load every key, tensors and bytes entries, into a new state dict."""
    from torch.distributed.checkpoint import FileSystemReader
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    state: dict[str, Any] = {}
    _load_state_dict(
        state,
        storage_reader=FileSystemReader(path),
        planner=_EmptyStateDictLoadPlanner(),
        no_dist=True,
    )
    return {"values": dict(_told(state, ""))}


def _told(value: Any, where: str) -> Any:
    import torch

    if isinstance(value, dict):
        for key, part in value.items():
            yield from _told(part, f"{where}.{key}" if where else str(key))
    elif isinstance(value, torch.Tensor):
        flat = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        digest = hashlib.sha256(flat).hexdigest()[:16]
        yield where, f"{value.dtype}{list(value.shape)} {digest}"
    else:
        yield where, repr(value)[:200]


def _child(path: str, answer: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 2))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    warnings.simplefilter("ignore")
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    try:
        found = load(path)
    except BaseException as error:  # a CheckpointException is no Exception
        found = {"error": f"{type(error).__name__}: {error}"[:4000]}
    with os.fdopen(answer, "w") as pipe:
        json.dump(found, pipe)
    os._exit(0)


def main() -> None:
    """Answer paths until stdin ends."""
    import torch
    import torch.distributed.checkpoint.state_dict_loader

    torch.set_num_threads(1)
    for line in sys.stdin:
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            _child(line.rstrip("\n"), writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        _, status = os.waitpid(pid, 0)
        print(text or json.dumps({"error": f"no answer, status {status}"}), flush=True)


if __name__ == "__main__":
    main()
