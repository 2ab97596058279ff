"""What counts as a good item: what torch loads to the same, and nothing else."""

from __future__ import annotations

import pytest

from dcpctl.repair.found import TENSOR, VALUE, Found, look
from dcpctl.storage.buffer import BufferStorage
from tests.test_formats.archives import (
    Zip,
    tensor_opcodes,
    tensor_pickle,
    tensor_zip,
    with_record,
)

NUMBERS = bytes(24)
TENSOR_23 = tensor_opcodes((2, 3), numel=6)


def found(archive: Zip) -> Found:
    data = archive.build()
    storage = BufferStorage("test")
    storage.append(data)
    return look(storage, "", 0, len(data))


def test_a_tensor_and_a_value_are_good() -> None:
    made = found(tensor_zip(tensor_pickle((2, 3), numel=6), NUMBERS))
    assert (made.kind, made.sizes, made.good) == (TENSOR, (2, 3), True)
    made = found(tensor_zip(b"\x80\x02}.", None))
    assert (made.kind, made.good) == (VALUE, True)


@pytest.mark.parametrize(
    "pickle",
    [
        b"\x80\x04" + TENSOR_23 + b".",
        b"\x80\x02K\x010" + TENSOR_23 + b".",
        tensor_pickle((2, 4), numel=6),
        tensor_pickle((2, 3), numel=7),
        tensor_pickle((2, 3), numel=6, key="1"),
        b"\x80\x02(" + TENSOR_23 + tensor_opcodes((3,), numel=3, storage="LongStorage") + b"t.",
    ],
    ids=["protocol", "popped", "larger", "another-size", "another-key", "two-types"],
)
def test_what_torch_refuses_or_no_writer_writes_is_not(pickle: bytes) -> None:
    assert not found(tensor_zip(pickle, NUMBERS)).good


def test_a_tensor_whose_loading_refers_to_anything_else_is_no_tensor() -> None:
    pickle = b"\x80\x02(cposix\nsystem\n" + TENSOR_23 + b"t."
    assert found(tensor_zip(pickle, NUMBERS)).kind == VALUE


def test_a_big_endian_item_is_not() -> None:
    good = tensor_zip(tensor_pickle((2, 3), numel=6), NUMBERS)
    assert "big-endian" in found(with_record(good, "byteorder", data=b"big")).problem
