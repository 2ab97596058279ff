"""Boxes of strided arrays against NumPy's own indexing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpctl.errors import LimitExceeded
from dcpctl.formats import strided
from dcpctl.formats.strided import StridedBytes
from dcpctl.formats.tensor_read import read_raw_box
from dcpctl.storage.buffer import BufferStorage


class Spy(BufferStorage):
    """Remembers which ranges were read."""

    def __init__(self, data: bytes) -> None:
        super().__init__("spy")
        self.append(data)
        self.ranges: list[tuple[int, int]] = []

    def read(self, name, offset, length):
        self.ranges.append((offset, length))
        return super().read(name, offset, length)

    def read_into(self, name, offset, buffer):
        self.ranges.append((offset, memoryview(buffer).nbytes))
        super().read_into(name, offset, buffer)


def matrix(rows: int, columns: int) -> tuple[np.ndarray, Spy]:
    numbers = np.arange(rows * columns, dtype="<i4").reshape(rows, columns)
    return numbers, Spy(b"head" + numbers.tobytes() + b"tail")


@pytest.mark.parametrize("gap", [0, 3, 64 << 10])
@pytest.mark.parametrize("block", [1, 40, 16 << 20])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_box_of_any_strides(gap, block, data):
    shape = data.draw(st.lists(st.integers(0, 4), max_size=4))
    full = np.arange(math.prod(n + 1 for n in shape), dtype="<u2").reshape([n + 1 for n in shape])
    axes = data.draw(st.permutations(range(len(shape))))
    array = full[tuple(slice(0, n) for n in shape)].transpose(axes)
    steps = [data.draw(st.integers(1, 2)) for _ in shape]
    array = array[tuple(slice(None, None, step) for step in steps)]
    starts = [data.draw(st.integers(0, n)) for n in array.shape]
    stops = [data.draw(st.integers(a, n)) for a, n in zip(starts, array.shape, strict=True)]
    source = StridedBytes(Spy(b"head" + full.tobytes()), "f", 4, array.dtype, array.strides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strided, "GAP_BYTES", gap)
        patch.setattr(strided, "BLOCK_BYTES", block)
        out = source.read(starts, stops)
    want = array[tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))]
    assert out.shape == want.shape
    assert out.flags.c_contiguous
    assert out.flags.writeable
    assert (out == want).all()


def test_rows_of_a_contiguous_array_are_one_read_of_their_bytes():
    numbers, spy = matrix(1000, 50)
    out = read_raw_box(spy, "f", 4, "int32", (1000, 50), (100, 0), (300, 50))
    assert (out == numbers[100:300]).all()
    assert spy.ranges == [(4 + 100 * 200, 200 * 200)]


def test_columns_close_together_are_read_with_what_lies_between():
    numbers, spy = matrix(1000, 50)
    out = read_raw_box(spy, "f", 4, "int32", (1000, 50), (0, 10), (1000, 20))
    assert (out == numbers[:, 10:20]).all()
    assert spy.ranges == [(4 + 40, 999 * 200 + 40)]


def test_columns_far_apart_are_read_one_by_one():
    numbers, spy = matrix(5, 50_000)
    out = read_raw_box(spy, "f", 4, "int32", (5, 50_000), (1, 7), (4, 9))
    assert (out == numbers[1:4, 7:9]).all()
    assert spy.ranges == [(4 + row * 200_000 + 28, 8) for row in (1, 2, 3)]


def test_a_large_column_is_read_in_bounded_blocks(monkeypatch):
    monkeypatch.setattr(strided, "BLOCK_BYTES", 10_000)
    numbers, spy = matrix(1000, 50)
    out = read_raw_box(spy, "f", 4, "int32", (1000, 50), (0, 49), (1000, 50))
    assert (out == numbers[:, 49:]).all()
    assert max(length for _, length in spy.ranges) <= 10_000
    assert len(spy.ranges) == 20


def test_a_transposed_array_reads_its_bytes_once():
    numbers, spy = matrix(30, 20)
    out = StridedBytes(spy, "f", 4, numbers.dtype, (4, 80)).read((0, 0), (20, 30))
    assert (out == numbers.T).all()
    assert spy.ranges == [(4, 2400)]


def test_stride_zero_repeats():
    spy = Spy(np.arange(3, dtype="<i4").tobytes())
    out = StridedBytes(spy, "f", 0, np.dtype("<i4"), (0, 4)).read((0, 1), (5, 3))
    assert out.tolist() == [[1, 2]] * 5


def test_empty_boxes_read_nothing():
    _, spy = matrix(3, 4)
    for starts, stops in (((1, 0), (1, 4)), ((3, 4), (3, 4))):
        assert read_raw_box(spy, "f", 4, "int32", (3, 4), starts, stops).size == 0
    assert spy.ranges == []


def test_a_scalar_is_one_element():
    out = read_raw_box(Spy(b"\7\0\0\0"), "f", 0, "int32", ())
    assert (out.shape, out.item()) == ((), 7)


@pytest.mark.parametrize(
    ("starts", "stops"),
    [((0,), (1,)), ((0, 0), (4, 4)), ((-1, 0), (1, 1)), ((2, 0), (1, 4)), ((0, 0, 0), (1, 1, 1))],
)
def test_boxes_outside_are_refused(starts, stops):
    _, spy = matrix(3, 4)
    with pytest.raises(ValueError, match="is not inside shape"):
        read_raw_box(spy, "f", 4, "int32", (3, 4), starts, stops)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "complex32", "bool"])
def test_unusual_dtypes_keep_their_bytes(dtype):
    raw = bytes([0, 1] * 24)
    whole = read_raw_box(Spy(raw), "f", 0, dtype, (2, 6))
    assert whole.tobytes() == raw[: whole.nbytes]
    width = whole.itemsize
    part = read_raw_box(Spy(raw), "f", 0, dtype, (2, 6), (0, 1), (2, 3))
    assert part.tobytes() == raw[width : 3 * width] + raw[7 * width : 9 * width]


def test_gaps_alike_in_the_file_and_in_the_result(monkeypatch):
    """Rows of a transposed result have the file's own strides, and are no run of bytes for that."""
    monkeypatch.setattr(strided, "BLOCK_BYTES", 1)
    full = np.arange(12, dtype="<u2").reshape(3, 4)
    array = full[:2, :3].T[::2]
    source = StridedBytes(Spy(b"head" + full.tobytes()), "f", 4, array.dtype, array.strides)
    assert source.read((0, 0), array.shape).tolist() == array.tolist()


def test_a_shape_without_elements_that_numpy_does_not_have_is_refused():
    source = StridedBytes(BufferStorage("x"), "", 0, np.dtype("<f4"), (0, 0, 4))
    stops = (1 << 40, 1 << 40, 0)
    with pytest.raises(LimitExceeded, match="NumPy has no array of the shape"):
        source.read((0, 0, 0), stops)
