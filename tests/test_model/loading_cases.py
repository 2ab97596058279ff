"""Saved and asked state dicts, and what the installed torch does when one loads the other."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._nested_dict import flatten_state_dict

from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.contract import Spec
from dcpctl.model.loading import LoadPreview, predict_load
from dcpctl.model.opening import open_checkpoint

SHAPES = ((), (1,), (4,), (3, 4), (4, 3), (2, 3, 4), (0,), (0, 3))
DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.complex64)
OBJECTS = (1, 2.5, "text", None, (0.9, 0.95), [0, 1], [], True)
KEYS = ("model", "optim", "state", "a.b", "a", "b", "lr", "zz")


@dataclass
class Outcome:
    """What stock torch did: exception's class and message (empty: none), and the state dict."""

    kind: str
    text: str
    state: dict[str, Any]


def tensor(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, value: int = 1) -> Any:
    """A tensor whose elements are all `value`."""
    return torch.full(shape, value, dtype=dtype)


def random_state(random: Random, value: int, depth: int = 0) -> dict[str, Any]:
    """A nested state dict of small tensors and plain objects."""
    keys = random.sample(KEYS, random.randint(1 if depth else 2, 4))
    return {key: _random_value(random, value, depth) for key in keys}


def _random_value(random: Random, value: int, depth: int) -> Any:
    kind = random.choice(("tensor", "tensor", "tensor", "object", "dict", "dict", "list"))
    if kind == "dict" and depth < 3:
        return random_state(random, value, depth + 1)
    if kind == "list" and depth < 3:
        return [_random_value(random, value, depth + 1) for _ in range(random.randint(1, 2))]
    if kind == "object":
        return random.choice(OBJECTS)
    return tensor(random.choice(SHAPES), random.choice(DTYPES), value)


def changed(random: Random, state: Any) -> Any:
    """A copy of a state dict with its tensors set to 0, and now and then a change."""
    if isinstance(state, dict):
        made = {key: changed(random, item) for key, item in state.items()}
        # An empty mapping is never made: the flattened keys of 2.4 and later do not show it.
        if len(made) > 1 and random.random() < 0.15:
            del made[random.choice(list(made))]
        if random.random() < 0.1:
            made[random.choice(KEYS)] = _random_value(random, 0, 2)
        return made
    if random.random() < 0.06:
        return _random_value(random, 0, 2)
    if isinstance(state, list):
        return [changed(random, item) for item in state]
    if isinstance(state, torch.Tensor):
        dtype = random.choice(DTYPES) if random.random() < 0.1 else state.dtype
        return tensor(tuple(state.shape), dtype, 0)
    return copy.deepcopy(state)


def save(state: Mapping[str, Any], path: Path, *, as_2_3: bool = False) -> None:
    """Save as the installed torch does, or with the keys that 2.3 would give."""
    from torch.distributed.checkpoint import _nested_dict

    version = getattr(_nested_dict, "_version", None)  # from torch 2.5 on
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if version is not None:
                version._derived_version = "2_3" if as_2_3 else None
            writer = dcp.FileSystemWriter(path, sync_files=False)
            dcp.save(dict(state), storage_writer=writer)
        finally:
            if version is not None:
                version._derived_version = None


def load(asked: Mapping[str, Any], path: Path, **planner: Any) -> Outcome:
    """Load with stock torch in this process alone."""
    state = dict(asked)
    loader = dcp.DefaultLoadPlanner(**planner)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dcp.load(state, storage_reader=dcp.FileSystemReader(path), planner=loader)
        except dcp.api.CheckpointException as error:
            cause, _ = error.failures[0]
            return Outcome(type(cause).__name__, str(cause), state)
    return Outcome("", "", state)


def flat(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """The leaves of a state dict by FQN, and their object paths."""
    leaves, paths = flatten_state_dict(dict(state))
    return leaves, paths


def specs(state: Mapping[str, Any]) -> dict[str, Spec]:
    """What a load of this state dict asks for."""
    return {
        fqn: Spec(tuple(leaf.shape), str(leaf.dtype)[6:])
        if isinstance(leaf, torch.Tensor)
        else Spec()
        for fqn, leaf in flat(state)[0].items()
    }


def predict(asked: Mapping[str, Any], path: Path, **options: Any) -> LoadPreview:
    """The prediction for the same load."""
    with open_checkpoint(path) as checkpoint:
        assert isinstance(checkpoint, Checkpoint)
        _leaves, paths = flat(asked)
        return predict_load(specs(asked), checkpoint, paths=paths, **options)
