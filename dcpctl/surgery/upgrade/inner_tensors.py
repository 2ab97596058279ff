"""Tensors inside bytes entries: what torch 1.13, which flattens nothing, makes of nested dicts.

Their numbers lie uncompressed in the entry's own archive, so that each can be described as a tensor
entry of its own: bare bytes at a place of the shard file. Nothing is copied before the writer does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dcpctl import limits
from dcpctl.errors import ChecksumMismatch, Refused, listed, quote
from dcpctl.formats import dtypes
from dcpctl.formats.pickles.imports import Import
from dcpctl.formats.pickles.standins import TensorRef
from dcpctl.formats.records import ChunkTable, StoredBytes, StoredCheckpoint, StoredTensor
from dcpctl.formats.tensor_values import materialize
from dcpctl.formats.torch_zip import TorchItem, open_item
from dcpctl.model.checkpoint import Checkpoint, Part
from dcpctl.model.entry import BytesEntry


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A bytes entry whose tensors are still references into its archive.

    Attributes:
        entry: the entry.
        value: its value; each tensor is a `TensorRef`.
        item: the archive.
    """

    entry: BytesEntry
    value: Any
    item: TorchItem

    def settled(self, value: Any) -> Any:
        """A part of the value with the numbers of its small tensors in it."""
        return materialize(value, subject=quote(self.entry.fqn), item=self.item)

    def stored(self, fqn: str, ref: TensorRef, file: int) -> StoredTensor:
        """Describe a tensor of the value as a tensor entry.

        Args:
            fqn: its new key.
            ref: the tensor.
            file: number of the shard file in its checkpoint's part.

        Raises:
            Refused: it is not contiguous, or the archive is compressed.
            ChecksumMismatch: its numbers do not have the recorded checksum.
            MalformedItem, UnknownForm: as `TorchItem.check_tensor`.
        """
        record = self.item.check_tensor(ref)
        if self.entry.stored.transforms or ref.conj or ref.neg or not _contiguous(ref):
            raise Refused(
                f"{quote(fqn)}, a tensor inside {quote(self.entry.fqn)}, is not kept in row order",
                hint="load it with the torch that wrote it and save its parts",
            )
        if self.item.check_crc(record.name) is False:
            raise ChecksumMismatch(
                f"{quote(fqn)}: its numbers do not have the checksum recorded for them"
            )
        width = dtypes.itemsize(ref.dtype)
        nbytes = math.prod(ref.shape) * width
        zeros = np.zeros((1, len(ref.shape)), dtype=np.int64)
        table = ChunkTable(
            zeros,
            np.array([ref.shape], dtype=np.int64).reshape(1, len(ref.shape)),
            np.array([file], dtype=np.int32),
            np.array([record.data_offset + ref.storage_offset * width], dtype=np.int64),
            np.array([nbytes], dtype=np.int64),
        )
        return StoredTensor(
            fqn, ref.shape, ref.dtype, table, encoding="raw", requires_grad=ref.requires_grad
        )


def part_of(checkpoint: Checkpoint, entry: BytesEntry) -> Part:
    """The directory of a checkpoint that a bytes entry lies in."""
    return max(
        (part for part in checkpoint.parts if part.first_file <= entry.file),
        key=lambda part: part.first_file,
    )


def open_value(checkpoint: Checkpoint, entry: BytesEntry) -> Opened | None:
    """Decode a bytes entry and leave its tensors where they are.

    Returns:
        None for an entry that is no archive of torch.save.

    Raises:
        As `BytesEntry.value`.
    """
    if entry.stored.encoding != "torch" or entry.file < 0:
        return None
    part = part_of(checkpoint, entry)
    item = open_item(
        part.storage,
        part.stored.files[entry.file - part.first_file],
        entry.offset,
        entry.length,
        transforms=entry.stored.transforms,
        subject=quote(entry.fqn),
    )
    machine = item.decode(limits.VALUE_BYTES)
    running = [path for path, use in sorted(machine.uses.items()) if Import(path, use).runs]
    if running:
        raise Refused(
            f"{quote(entry.fqn)} cannot be opened: loading it runs code: {listed(running)}",
            hint="dcpctl drop leaves it out",
        )
    value = machine.result
    return Opened(entry, materialize(value, subject=quote(entry.fqn)), item)


def beside(checkpoint: Checkpoint, part: Part, stored: dict[str, StoredTensor]) -> Checkpoint:
    """A checkpoint of the same files, whose entries are tensors found inside bytes entries."""
    entries: dict[str, StoredTensor | StoredBytes] = dict(stored)
    described = StoredCheckpoint(
        part.stored.form,
        entries=entries,
        files=list(part.stored.files),
        metadata_file=part.stored.metadata_file,
    )
    return Checkpoint(checkpoint.path, [(part.name, part.storage, described)])


def _contiguous(ref: TensorRef) -> bool:
    expected = 1
    for size, stride in zip(reversed(ref.shape), reversed(ref.stride), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
