"""What a state dict asks for: its keys as `dcp.load` flattens them, with shapes and dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint.stateful import Stateful

from dcpctl.model.contract import Spec
from dcpctl.model.fqn import Path
from dcpctl.training.stored import dtype_name


def specs_of(flat: Mapping[str, Any]) -> dict[str, Spec]:
    """Return what stands under each key of a flattened state dict.

    Tensors of every kind (plain, `DTensor`, `ShardedTensor`) have their global shape.
    """
    return {fqn: spec_of(value) for fqn, value in flat.items()}


def spec_of(value: Any) -> Spec:
    """Return what one value of a flattened state dict is."""
    if not isinstance(value, torch.Tensor):
        return Spec()
    if isinstance(value, ShardedTensor):  # whose size() warns that it is deprecated
        whole = value.metadata()
        return Spec(tuple(whole.size), dtype_name(whole.tensor_properties.dtype))
    return Spec(tuple(value.size()), dtype_name(value.dtype))


def flattened(state_dict: Mapping[str, Any]) -> tuple[dict[str, Spec], dict[str, Path]]:
    """Flatten a state dict as `dcp.load` of the installed torch does.

    Args:
        state_dict: what would be given to `dcp.load`; values with a `state_dict` method
            (`Stateful`) are asked for it, as `dcp.load` does. It is not changed.

    Returns:
        What is asked for by FQN, and the object path of each FQN.
    """
    taken = {
        key: value.state_dict() if isinstance(value, Stateful) else value
        for key, value in sorted(state_dict.items())
    }
    flat, paths = flatten_state_dict(taken)
    return specs_of(flat), paths
