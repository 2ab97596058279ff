"""ByteCheckpoint's field of pickles beside the metadata: read as strictly as an archive's."""

from __future__ import annotations

import numpy as np
import pytest

from dcpctl.errors import DcpctlError
from dcpctl.formats.layouts import bytecheckpoint
from dcpctl.formats.metadata import DCP
from dcpctl.formats.pickles.standins import Record
from dcpctl.formats.records import ChunkTable, StoredCheckpoint, StoredTensor
from tests.test_formats.archives import tensor_opcodes, tensor_pickle


def placed(pickled: object) -> StoredCheckpoint:
    """A checkpoint of the one tensor `w`, float32[2, 3], whose pickle is this."""
    box = np.array([[2, 3]]), np.zeros(1, np.int32), np.zeros(1, np.int64), np.full(1, 24)
    chunks = ChunkTable(np.zeros((1, 2), np.int64), *box)
    index = Record("torch.distributed.checkpoint.metadata.MetadataIndex", {"fqn": "w"})
    stored = StoredCheckpoint(
        DCP,
        files=["__0.distcp"],
        entries={"w": StoredTensor("w", (2, 3), "float32", chunks)},
        fields={"all_tensor_metadata": {index: pickled}},
    )
    assert bytecheckpoint.recognises(stored)
    bytecheckpoint.place(stored)
    return stored


def test_a_tensor_lies_bare_in_its_file() -> None:
    stored = placed(tensor_pickle((2, 3), numel=6))
    assert (stored.form.name, stored.entries["w"].encoding) == ("bytecheckpoint", "raw")
    assert not stored.fields


@pytest.mark.parametrize(
    ("pickled", "says"),
    [
        (b"\x80\x04" + tensor_opcodes((2, 3), numel=6) + b".", "another protocol"),
        (b"\x80\x02cposix\nsystem\n0" + tensor_opcodes((2, 3), numel=6) + b".", "opcode 0x30"),
        (b"\x80\x02cposix\nsystem\n(X\x02\x00\x00\x00idtR.", "refers to 'posix.system'"),
        (tensor_pickle((2, 4), numel=6), "needs 32 bytes, its storage has 24"),
        (tensor_pickle((2, 3), numel=6, stride=(1, 2)), "strides"),
        (tensor_pickle((2, 3), numel=6, storage="IntStorage"), "no float32 tensor"),
        (b"\x80\x02N.", "no float32 tensor"),
        ("text", "no tensor of the checkpoint"),
    ],
)
def test_a_pickle_of_another_kind_is_refused(pickled: object, says: str) -> None:
    with pytest.raises(DcpctlError, match=says):
        placed(pickled)
