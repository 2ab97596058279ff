"""Bytes entries with tensors in them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from dcpctl import limits
from dcpctl.errors import (
    DcpctlError,
    LimitExceeded,
    MalformedItem,
    MalformedPickle,
    UnknownForm,
)
from dcpctl.formats import tensor_values
from dcpctl.formats.pickles.standins import TensorRef
from dcpctl.formats.tensor_values import TensorValue
from dcpctl.formats.value_read import ValueReader
from dcpctl.storage.buffer import BufferStorage
from tests.test_formats.archives import item_of, tensor_opcodes, tensor_zip

DATA = np.arange(8, dtype="<f4").tobytes()
ONE = tensor_opcodes((2,), numel=8, offset=3)


def value_of(opcodes: bytes, data: bytes = DATA):
    held = data if b"_rebuild_tensor" in opcodes else None
    return item_of(tensor_zip(b"\x80\x02" + opcodes + b".", held).build()).value()


def test_plain_values_pass():
    for value in (8500, -1.5, "text", None, (0.9, 0.95), {"a": [1, {"b": ()}]}, True, b"\0\xff"):
        found = value_of(pickle.dumps(value, 2)[2:-1])
        assert found == value
        assert type(found) is type(value)


def test_tensors_become_values_wherever_they_are():
    alone = value_of(ONE)
    assert isinstance(alone, TensorValue)
    assert (alone.dtype, alone.shape, alone.array.tolist()) == ("float32", (2,), [3.0, 4.0])
    nested = value_of(b"}X\1\0\0\0a(]" + ONE + b"aK\5ts")
    assert nested["a"][1] == 5
    assert nested["a"][0][0].array.tolist() == [3.0, 4.0]


def test_shared_values_stay_shared():
    shared = value_of(b"(" + ONE + b"q\0h\0t")
    assert shared[0] is shared[1]
    lists = value_of(b"(]q\0" + ONE + b"ah\0t")
    assert lists[0] is lists[1]


def test_values_in_themselves_are_refused():
    for opcodes in (b"]q\0h\0a", b"}q\0K\1h\0s", b"]q\0(h\0" + ONE + b"tq\1ah\1\x86"):
        with pytest.raises(DcpctlError):
            value_of(opcodes)
    with pytest.raises(UnknownForm, match="'x': a list in itself"):
        value_of(b"]q\0h\0a")


def doubled(levels: int, first: bytes) -> bytes:
    out = b"(" + first + b"tq\0"
    for number in range(levels):
        out += b"0h" + bytes([number]) + b"h" + bytes([number]) + b"\x86q" + bytes([number + 1])
    return out


def test_values_that_share_parts_are_counted_as_written_out():
    value = value_of(doubled(10, ONE))
    for _ in range(10):
        assert value[0] is value[1]
        value = value[0]
    assert isinstance(value[0], TensorValue)
    with pytest.raises(LimitExceeded, match="written out it has over"):
        value_of(doubled(60, ONE))
    text = b"X" + (1 << 20).to_bytes(4, "little") + b"x" * (1 << 20)
    with pytest.raises(LimitExceeded, match="written out it has over"):
        value_of(doubled(9, text))


def test_depth_is_counted_through_shared_parts():
    # Each list holds the one before it, and all stand side by side at the top.
    chain = b"(]r" + (0).to_bytes(4, "little")
    for number in range(300):
        chain += b"]j" + number.to_bytes(4, "little") + b"a"
        chain += b"r" + (number + 1).to_bytes(4, "little")
    with pytest.raises(LimitExceeded, match="200 levels deep"):
        value_of(chain + b"t")


def test_large_tensors_stay_references():
    size = limits.SMALL_TENSOR_BYTES // 4
    small = value_of(tensor_opcodes((size,), numel=size), bytes(size * 4))
    large = value_of(tensor_opcodes((size + 1,), numel=size + 1), bytes(size * 4 + 4))
    assert isinstance(small, TensorValue)
    assert isinstance(large, TensorRef)
    # An expanded tensor is as large as it looks.
    assert isinstance(value_of(tensor_opcodes((1 << 50,), stride=(0,), numel=8)), TensorRef)
    assert value_of(tensor_opcodes((3,), stride=(0,), numel=8)).array.tolist() == [0.0] * 3


def test_many_tensors_share_one_budget(monkeypatch):
    monkeypatch.setattr(tensor_values.limits, "VALUE_BYTES", 10_000)
    values = value_of(b"(" + ONE * 4 + b"t")
    assert [type(value) for value in values] == [TensorValue] * 3 + [TensorRef]


def test_tensors_that_do_not_fit_are_refused():
    with pytest.raises(MalformedPickle, match="needs 36 bytes, its storage has 32"):
        value_of(tensor_opcodes((9,), numel=8))
    # One that is too large to become a value is no less looked at, wherever it is.
    with pytest.raises(MalformedPickle, match="its storage has 32"):
        value_of(tensor_opcodes(((1 << 31) - 1,), numel=8))
    with pytest.raises(MalformedPickle, match="its storage has 32"):
        value_of(b"cmy.own\nThing\n(" + tensor_opcodes((1 << 31,), offset=8, numel=8) + b"tR")
    with pytest.raises(MalformedItem, match="no record 'data/7'"):
        value_of(tensor_opcodes((8,), numel=8, key="7"))


def test_nesting_has_an_end():
    assert value_of(b"]" * 200 + b"a" * 199)
    for depth in (201, 100_000):
        with pytest.raises(LimitExceeded):
            value_of(b"]" * depth + b"a" * (depth - 1))


def test_long_pickles_are_refused(monkeypatch):
    monkeypatch.setattr(limits, "VALUE_BYTES", 1000)
    with pytest.raises(LimitExceeded, match="a pickle of"):
        value_of(pickle.dumps("x" * 2000, 2)[2:-1])


# -- the reader that remembers ---------------------------------------------------------------------


class Counting(BufferStorage):
    reads = 0

    def read(self, name, offset, length):
        self.reads += 1
        return super().read(name, offset, length)


def test_equal_items_are_decoded_once(monkeypatch):
    item = tensor_zip(pickle.dumps((0.9, 0.95), 2), None).build()
    other = tensor_zip(pickle.dumps([1], 2), None).build()
    storage = Counting("x")
    storage.append(item + item + other + other)
    reader = ValueReader(storage)
    first = reader.read("f", 0, len(item), subject="a")
    assert first == (0.9, 0.95)
    assert reader.read("f", len(item), len(item), subject="b") is first
    assert storage.reads == 2
    # What can be changed is not shared.
    at = 2 * len(item)
    one = reader.read("f", at, len(other), subject="c")
    two = reader.read("f", at + len(other), len(other), subject="d")
    assert one == two == [1]
    assert one is not two


def test_the_reader_reports_as_the_item_does():
    storage = BufferStorage("x")
    storage.append(b"nothing of worth")
    reader = ValueReader(storage)
    for offset, length in ((0, 16), (0, 0), (0, -1), (3, 5000)):
        with pytest.raises(DcpctlError):
            reader.read("f", offset, length, subject="'a'")
