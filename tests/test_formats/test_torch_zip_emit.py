"""Items written: byte for byte what torch.save writes."""

from __future__ import annotations

import io
import math
from collections import OrderedDict

import numpy as np
import pytest

from dcpctl.errors import Refused, UnknownForm
from dcpctl.formats.crc import crc32
from dcpctl.formats.dtypes import DTYPES, itemsize, numpy_dtype
from dcpctl.formats.pickles.standins import Device, DType, Opaque, Size, TensorRef
from dcpctl.formats.tensor_read import read_box
from dcpctl.formats.tensor_values import TensorValue
from dcpctl.formats.torch_zip import open_item
from dcpctl.formats.torch_zip_emit import tensor_item, value_item
from dcpctl.storage.local import LocalStorage
from tests.test_formats.archives import item_of

SHAPES = [(), (0,), (0, 3), (3, 0, 2), (1,), (300, 2), (2, 3, 4), (1, 1, 1, 1), (2, 1, 3, 1, 2)]
NAMES = [name for name, row in DTYPES.items() if row.kind not in ("quantized", "packed")]
VALUES = [
    *[1, 0.5, "adamw", None, True, (0.9, 0.95), [], {}, b"abc\xff", b"", bytearray(b"ab"), 1 + 2j],
    *[{1}, frozenset(), OrderedDict(a=1, b=2), OrderedDict(a=1), list(range(2500)), 1 << 70],
    {"lr": 0.1, "betas": (0.9, 0.95), "params": [f"layers.{n}.weight" for n in range(300)]},
]


def _bytes(dtype, shape):
    count = math.prod(shape) * itemsize(dtype)
    return np.random.default_rng(0).integers(0, 2, count, dtype=np.uint8).tobytes()


def _item(dtype, shape, data):
    layout = tensor_item(dtype, shape)
    assert layout.data_bytes == len(data)
    item = layout.prefix + data + layout.suffix(crc32(data))
    assert len(item) == layout.total_bytes
    return item


# -- tensors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", NAMES)
def test_reads_what_it_writes(dtype, shape):
    data = _bytes(dtype, shape)
    item = item_of(_item(dtype, shape, data))
    ref = item.tensor()
    assert (ref.dtype, ref.shape) == (dtype, shape)
    assert read_box(item, ref).tobytes() == data
    assert all(item.check_crc(name) for name in item.records)
    assert all(record.data_offset % 64 == 0 for record in item.records.values())


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [*NAMES, "float4_e2m1fn_x2"])
def test_torch_writes_the_same_bytes(torch, dtype, shape):
    kind = getattr(torch, dtype, None)
    if kind is None:
        pytest.skip(f"this torch has no {dtype}")
    data = _bytes(dtype, shape)
    if data:
        tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(kind).reshape(shape)
    else:
        tensor = torch.empty(shape, dtype=kind)
    item = _item(dtype, shape, data)
    loaded = torch.load(io.BytesIO(item), weights_only=True)
    assert (loaded.dtype, loaded.shape) == (kind, torch.Size(shape))
    assert loaded.is_contiguous()
    if data:
        assert loaded.reshape(-1).view(torch.uint8).numpy().tobytes() == data
    expected = io.BytesIO()
    torch.save(tensor, expected)
    if b".storage_alignment" in expected.getvalue():  # 2.7 and later
        assert item == expected.getvalue()


@pytest.mark.parametrize("spare", [-1, 2, 300, 640, 700, 800])
def test_items_beyond_4_gib(tmp_path, torch, spare):
    # The records that follow cross the 32-bit border one after another. The file is sparse.
    count = (1 << 32) - spare
    layout = tensor_item("uint8", (count,))
    with (tmp_path / "large").open("wb") as file:
        file.write(layout.prefix)
        file.seek(count, io.SEEK_CUR)
        file.write(layout.suffix(0x12345678))
        assert file.tell() == layout.total_bytes
    with LocalStorage(tmp_path) as storage:
        item = open_item(storage, "large", 0, layout.total_bytes, subject="it")
        assert item.tensor().shape == (count,)
        assert item.records["data/0"].crc32 == 0x12345678
        assert item.check_crc(".data/serialization_id")
    loaded = torch.load(tmp_path / "large", mmap=True, weights_only=True)
    assert loaded.shape == (count,)
    assert int(loaded[-1]) == 0


def test_layouts_are_made_once():
    assert tensor_item("float32", (4, 4)) is tensor_item("float32", (4, 4))


def test_unknown_dtype():
    with pytest.raises(UnknownForm, match="unknown dtype 'float3'"):
        tensor_item("float3", (1,))


# -- bytes entries ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_values_come_back(value):
    item = item_of(value_item(value))
    assert item.value() == value
    assert all(item.check_crc(name) for name in item.records)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_torch_writes_the_same_value(torch, value):
    expected = io.BytesIO()
    torch.save(value, expected)
    assert value_item(value) == expected.getvalue()
    assert torch.load(io.BytesIO(value_item(value)), weights_only=False) == value


def test_torch_writes_the_same_stand_ins(torch):
    pairs = [
        (torch.Size((2, 3)), Size((2, 3))),
        (torch.float32, DType("float32")),
        (torch.device("cuda", 1), Device("cuda:1")),
    ]
    for real, stand_in in pairs:
        expected = io.BytesIO()
        torch.save(real, expected)
        assert value_item(stand_in) == expected.getvalue()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint16", "float8_e4m3fn", "bool"])
def test_tensors_in_values(torch, dtype):
    array = np.ones((2, 3), dtype=numpy_dtype(dtype))
    step = TensorValue("float32", (), np.array(8500.0, dtype="<f4"))
    value = {"state": [TensorValue(dtype, (2, 3), array), step], "again": step}
    data = value_item(value)
    found = item_of(data).value()
    assert found["state"][0].array.tobytes() == array.tobytes()
    assert float(found["state"][1].array) == 8500.0
    loaded = torch.load(io.BytesIO(data), weights_only=True)
    assert torch.equal(loaded["state"][0].float(), torch.ones(2, 3))
    assert loaded["again"] is loaded["state"][1]
    expected = io.BytesIO()
    tensor = torch.ones(2, 3).to(getattr(torch, dtype))
    again = torch.tensor(8500.0)
    torch.save({"state": [tensor, again], "again": again}, expected)
    assert data == expected.getvalue()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([Opaque("lib.Scheduler")], "the class 'lib.Scheduler' cannot be written again"),
        (TensorRef("float32", (9,), (1,), 0, "0", 9, "float32"), r"float32\[9\] in a bytes entry"),
        ({"rng": np.arange(3)}, "a 'ndarray' cannot be written"),
    ],
)
def test_refuses_what_was_not_decoded(value, message):
    with pytest.raises(Refused, match=message):
        value_item(value)
