"""Bytes entries of one checkpoint, decoded once for all that are the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dcpctl import limits
from dcpctl.errors import LimitExceeded
from dcpctl.formats.pickles import policy, vm
from dcpctl.formats.pickles.standins import Device, DType
from dcpctl.formats.tensor_values import materialize
from dcpctl.formats.torch_zip import open_item
from dcpctl.storage.base import Storage
from dcpctl.storage.buffer import BufferStorage

#: Items up to this size are looked up among those decoded before.
_SMALL_ITEM_BYTES = 4 << 10
_REMEMBERED = 4096
_IMMUTABLE = (bool, int, float, complex, str, bytes, type(None), DType, Device)


class ValueReader:
    """Reads the bytes entries of a checkpoint.

    A flattened optimizer state has one bytes entry for every parameter and hyperparameter, and
    nearly all hold the same few values in the same bytes.

    Args:
        storage: the checkpoint's files.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known: dict[bytes, Any] = {}

    def read(
        self, file: str, offset: int, length: int, *, transforms: Sequence[str] = (), subject: str
    ) -> Any:
        """Return the value of the bytes entry at [offset, offset + length) of `file`.

        Returns:
            As `TorchItem.value`.

        Raises:
            As `open_item` and `TorchItem.value`.
        """
        if transforms or not 0 < length <= _SMALL_ITEM_BYTES:
            return open_item(
                self._storage, file, offset, length, transforms=transforms, subject=subject
            ).value()
        data = self._storage.read(file, offset, length)
        if data in self._known:
            return self._known[data]
        held = BufferStorage(subject)
        held.append(data)
        value = open_item(held, "", 0, length, subject=subject).value()
        if _shareable(value) and len(self._known) < _REMEMBERED:
            self._known[data] = value
        return value

    def read_pickle(self, file: str, offset: int, length: int, *, subject: str) -> Any:
        """Return the value of a bytes entry that is a bare pickle, as ByteCheckpoint writes them.

        Raises:
            LimitExceeded: it is longer than `limits.VALUE_BYTES`.
            As `vm.load` and `Storage.read`.
        """
        if length > limits.VALUE_BYTES:
            raise LimitExceeded(f"{subject}: a pickle of {length} bytes, over {limits.VALUE_BYTES}")
        data = self._storage.read(file, offset, length)
        return materialize(vm.load(data, policy.VALUES, subject=subject), subject=subject)


def _shareable(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_shareable(part) for part in value)
    return isinstance(value, _IMMUTABLE)
