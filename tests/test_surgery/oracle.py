"""torch as the oracle: what `dcp.load` gives for a checkpoint that dcpctl wrote."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.surgery.edits import apply_edits
from dcpctl.surgery.verbs import Verb
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.write import write

#: What an entry holds: a tensor's dtype, shape and SHA-256, or an object itself.
Truth = dict[str, Any]
#: What JSON cannot hold is told with marks, and keys that may have been numbers are not told from
#: texts.
_UNTOLD = re.compile(r'"__(?!tuple)|"\d+":')


def made(source: Path, target: Path, *edits: Verb) -> Path:
    """Apply edits and write the result as DCP; with `target` equal to `source`, in place."""
    in_place = target == source
    options = WriteOptions(in_place=in_place, progress=False, to="dcp")
    with ExitStack() as opened:

        def open_(path: Path) -> Any:
            return opened.enter_context(open_checkpoint(path))

        draft, _ = apply_edits(open_(source), edits, open_)
        write(plan(draft, target, options), options)
    return target


def by_torch(path: Path) -> Truth:
    """Load every key with `dcp.load`, and describe it."""
    import torch
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    reader = dcp.FileSystemReader(path)
    described = reader.read_metadata().state_dict_metadata
    state: dict[str, Any] = {
        fqn: torch.empty(entry.size, dtype=entry.properties.dtype)
        if isinstance(entry, TensorStorageMetadata)
        else None
        for fqn, entry in described.items()
    }
    load(state, path)
    return {fqn: describe(value) for fqn, value in state.items()}


def load(state: dict[str, Any], path: Path) -> None:
    """Fill a flat state dict by `dcp.load`, in one process."""
    import torch.distributed.checkpoint as dcp

    planner = dcp.DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process is what is wanted
        dcp.load(state, storage_reader=dcp.FileSystemReader(path), planner=planner, no_dist=True)


def describe(value: Any) -> Any:
    """A tensor as dtype, shape and hash of its numbers; all else as it is."""
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    data = value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return tensor_truth(str(value.dtype).removeprefix("torch."), tuple(value.shape), data)


def tensor_truth(dtype: str, shape: Sequence[int], data: bytes) -> tuple[str, tuple[int, ...], str]:
    """What `describe` gives for a tensor of these bytes."""
    return dtype, tuple(shape), hashlib.sha256(data).hexdigest()


def truth(checkpoint: Path) -> Truth:
    """What stands beside a sample, in the same terms; without objects that JSON cannot hold."""
    beside = checkpoint.with_name(f"{checkpoint.name}.expected.json")
    if not beside.exists():
        beside = checkpoint.parent / "expected.json"
    found: Truth = {}
    for fqn, entry in json.loads(beside.read_text())["entries"].items():
        if entry["kind"] == "tensor":
            found[fqn] = entry["dtype"], tuple(entry["shape"]), entry["sha256"]
        elif "value" in entry and not _UNTOLD.search(json.dumps(entry["value"])):
            found[fqn] = _plain(entry["value"])
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"__tuple__"}:
            return tuple(map(_plain, value["__tuple__"]))
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def same_planner_data(path: Path, draft: Draft) -> bool:
    """Whether the planner data that torch reads are those of a draft."""
    import torch.distributed.checkpoint as dcp

    read = dcp.FileSystemReader(path).read_metadata().planner_data
    return bool(dict(read) == dict(draft.planner_data or {}))
