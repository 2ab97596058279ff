"""ByteCheckpoint's variation on `.metadata`: the tensors' pickles stand in it, not beside the data.

`Metadata.all_tensor_metadata` maps each chunk to the pickle that torch.save would have put into an
archive; the shard file holds the bare storage, and bytes entries are bare pickles
(`bytecheckpoint/checkpointer/meta_type.py` and `utilities/serialization.py`, 0.0.3).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from dcpctl.errors import MalformedMetadata, UnknownForm, listed, quote
from dcpctl.formats.form import Form
from dcpctl.formats.pickles import policy
from dcpctl.formats.pickles.standins import Record, TensorRef
from dcpctl.formats.records import StoredBytes, StoredCheckpoint, StoredTensor
from dcpctl.formats.torch_zip import decode_pickle

_FIELD = "all_tensor_metadata"

BYTECHECKPOINT = Form(
    "bytecheckpoint",
    "ByteCheckpoint",
    unread="ByteCheckpoint wrote bare numbers into the shard files, which torch's FileSystemReader "
    "cannot read",
)


def recognises(stored: StoredCheckpoint) -> bool:
    """Whether the metadata holds the tensors' pickles."""
    return isinstance(stored.fields.get(_FIELD), dict)


def place(stored: StoredCheckpoint) -> None:
    """Say how the items are encoded, having seen that every tensor is bare contiguous numbers.

    Raises:
        UnknownForm: a tensor whose numbers do not lie in order; nothing is guessed about it.
        MalformedMetadata: a pickle in the field is no tensor, or of a chunk that is not there.
    """
    pickles: dict[Any, Any] = stored.fields.pop(_FIELD)
    for index, pickled in pickles.items():
        if pickled is not None:
            _check(index, pickled, stored)
    for fqn, entry in stored.entries.items():
        if isinstance(entry, StoredTensor):
            stored.entries[fqn] = dataclasses.replace(entry, encoding="raw")
        elif isinstance(entry, StoredBytes):
            stored.entries[fqn] = dataclasses.replace(entry, encoding="pickle")
    stored.form = BYTECHECKPOINT


def _check(index: Any, pickled: Any, stored: StoredCheckpoint) -> None:
    fqn = index.fields.get("fqn") if isinstance(index, Record) else None
    entry = stored.entries.get(fqn) if isinstance(fqn, str) else None
    if not isinstance(pickled, bytes) or not isinstance(entry, StoredTensor):
        raise MalformedMetadata(f"{_FIELD} maps {quote(fqn)}, which is no tensor of the checkpoint")
    machine, _ = decode_pickle(pickled, policy.TENSORS, subject=f"{_FIELD} of {quote(fqn)}")
    ref = machine.result
    if machine.uses:
        raise MalformedMetadata(
            f"{_FIELD} of {quote(fqn)} refers to {listed(sorted(machine.uses))}"
        )
    if not isinstance(ref, TensorRef) or ref.dtype != entry.dtype:
        raise MalformedMetadata(f"{_FIELD} of {quote(fqn)} is no {entry.dtype} tensor")
    if ref.storage_offset or ref.conj or ref.neg or not _contiguous(ref):
        raise UnknownForm(
            f"{quote(fqn)}: stored with strides {list(ref.stride)}, which is not supported "
            "for ByteCheckpoint"
        )


def _contiguous(ref: TensorRef) -> bool:
    step = 1
    for size, stride in zip(reversed(ref.shape), reversed(ref.stride), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True
