"""What a run's state dict holds, without its numbers: what a load asks for, what a gate expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.entry import TensorEntry
from dcpctl.model.optimizer.view import OptimizerView


@dataclass(frozen=True, slots=True)
class Spec:
    """What stands under one FQN.

    Attributes:
        shape: elements per dimension of a tensor; None for an object that is no tensor.
        dtype: a tensor's, torch's name without `torch.`; None for an object.
    """

    shape: tuple[int, ...] | None = None
    dtype: str | None = None

    @property
    def is_tensor(self) -> bool:
        """Whether it is a tensor entry."""
        return self.shape is not None


@dataclass(frozen=True, slots=True)
class Contract:
    """The keys of a state dict, flattened as DCP does, with shapes and dtypes.

    Attributes:
        entries: FQN to what stands there, in order.
        optimizer: kind of the optimizer (`AdamW`), where there is one and it is known.
        group_keys: what keys param groups have, sorted, `params` left out; groups that have the
            same keys count once.
    """

    entries: Mapping[str, Spec]
    optimizer: str | None = None
    group_keys: tuple[tuple[str, ...], ...] = ()


def contract_of(checkpoint: Checkpoint, view: OptimizerView | None = None) -> Contract:
    """Return the contract that a checkpoint keeps; reads param groups and no tensor.

    Args:
        checkpoint: opened.
        view: what it says of its optimizer, where that is known already.
    """
    view = view or OptimizerView(checkpoint)
    return Contract(
        entries={
            fqn: Spec(entry.shape, entry.dtype) if isinstance(entry, TensorEntry) else Spec()
            for fqn, entry in checkpoint.entries.items()
        },
        optimizer=view.kind,
        # Which groups there are depends on values where every parameter has its own entries.
        group_keys=tuple(sorted({tuple(sorted(group.values)) for group in view.param_groups})),
    )
