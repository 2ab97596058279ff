"""A checkpoint as torch's `Metadata` describes it, in the form that dcpctl's model reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from dcpctl.errors import MissingFile, quote
from dcpctl.model.fqn import Path


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor entry.

    Attributes:
        fqn: its key.
        shape: elements per dimension.
        dtype: torch's name without `torch.`.
        nbytes: bytes of its numbers.
    """

    fqn: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int

    def numpy(self) -> NoReturn:
        """Refuse to read; see `StoredObject.value`."""
        raise _unread(self.fqn)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An entry that is no tensor.

    Attributes:
        fqn: its key.
    """

    fqn: str

    @property
    def value(self) -> NoReturn:
        """Refuse to read: a planner knows where no byte lies, and looks before any is read."""
        raise _unread(self.fqn)


class StoredKeys:
    """The keys of a checkpoint without its bytes; a `model.optimizer.source.CheckpointLike`.

    Args:
        metadata: what the storage reader of `dcp.load` read.

    Attributes:
        entries: FQN to entry, in metadata order.
        planner_data: FQN to object path; None where the release writes none.
        saved_as: the directory that the save was made to, if it is said (2.4).
        save_id: UUID of the save, if it is said (2.4).
    """

    def __init__(self, metadata: Metadata) -> None:
        self.entries: Mapping[str, StoredTensor | StoredObject] = {
            fqn: _entry(fqn, entry) for fqn, entry in metadata.state_dict_metadata.items()
        }
        known = metadata.planner_data
        self.planner_data: Mapping[str, Path] | None = known if isinstance(known, dict) else None
        meta = getattr(metadata, "storage_meta", None)
        saved_as, save_id = getattr(meta, "checkpoint_id", None), getattr(meta, "save_id", None)
        self.saved_as: str | None = None if saved_as is None else str(saved_as)
        self.save_id: str | None = None if save_id is None else str(save_id)


def _entry(fqn: str, entry: Any) -> StoredTensor | StoredObject:
    if not isinstance(entry, TensorStorageMetadata):
        return StoredObject(fqn)
    dtype = entry.properties.dtype
    shape = tuple(entry.size)
    return StoredTensor(fqn, shape, dtype_name(dtype), math.prod(shape) * dtype.itemsize)


def dtype_name(dtype: Any) -> str:
    """Return a torch dtype's name without `torch.`."""
    return str(dtype).removeprefix("torch.")


def _unread(fqn: str) -> MissingFile:
    return MissingFile(f"{quote(fqn)} is not read while a load is planned")
