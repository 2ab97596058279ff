"""Decoded values as type names and JSON."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from dcpctl.diff.equality import equal_values
from dcpctl.errors import LimitExceeded
from dcpctl.formats.dtypes import DTYPES, numpy_dtype
from dcpctl.formats.pickles.standins import Device, DType, Opaque, Record, Size, TensorRef
from dcpctl.formats.tensor_values import TensorValue
from dcpctl.model.values import Unknown, to_json, type_name


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (1 << 70, 1 << 70),
        (0.1, 0.1),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        ((1, (2,)), [1, [2]]),
        ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "None": "b", "(1, 2)": "c"}),
        (b"\0\xff", {"__bytes_hex__": "00ff"}),
        (bytearray(b"\1"), {"__bytes_hex__": "01"}),
        (1 - 2j, {"__complex__": [1.0, -2.0]}),
        ({3, 1}, {"__set__": [1, 3]}),
        (DType("bfloat16"), {"__repr__": "torch.bfloat16", "__type__": "torch.dtype"}),
        (
            Device("cuda:0"),
            {"__repr__": "device(type='cuda', index=0)", "__type__": "torch.device"},
        ),
        (Opaque("a.B"), None),
        (Record("m.C", {"x": Size((2,))}), {"__type__": "m.C", "x": [2]}),
        ({Record("m.C"): 1}, {"<m.C>": 1}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_json(value: Any, expected: Any) -> None:
    assert to_json(value) == expected
    json.dumps(to_json(value), allow_nan=False)


def test_long_bytes_are_cut() -> None:
    shown = to_json(b"a" * 100_000)
    assert shown["__truncated__"] == 100_000
    assert len(shown["__bytes_hex__"]) == 2 * (64 << 10)


@pytest.mark.parametrize("name", DTYPES)
def test_small_tensors_of_every_dtype(name: str) -> None:
    array = np.zeros((2, 1), dtype=numpy_dtype(name))
    shown = to_json(TensorValue(name, (2, 1), array))["__tensor__"]
    assert (shown["dtype"], shown["shape"]) == (name, [2, 1])
    json.dumps(shown)


def test_large_tensors_have_no_values() -> None:
    ref = TensorRef("float32", (5,), (1,), 0, "0", 5, "float32")
    assert to_json(ref)["__tensor__"]["values"] is None


def test_signalling_nans_do_not_warn() -> None:
    array = np.array([0x7F81], dtype=np.uint16).view(numpy_dtype("bfloat16"))
    assert to_json(TensorValue("bfloat16", (1,), array))["__tensor__"]["values"] == ["NaN"]


def test_what_is_too_large_or_deep_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    doubled: list[Any] = [1]
    for _ in range(40):
        doubled = [doubled, doubled]
    own: list[Any] = []
    own.append(own)
    text = ["x" * 1_000_000] * 1000
    for value in (deep, doubled, own, text, np.zeros(2_000_000)):
        with pytest.raises(LimitExceeded):
            to_json(value)


def test_a_record_as_key_is_only_named() -> None:
    """Its fields could take for ever to write out."""
    doubled: list[Any] = [1]
    for _ in range(60):
        doubled = [doubled, doubled]
    assert to_json({Record("m.C", {"x": doubled}): 1}) == {"<m.C>": 1}
    with pytest.raises(LimitExceeded):
        to_json({Record("m.C", {"x": doubled}), Record("m.D")})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, "builtins.int"),
        (None, "builtins.NoneType"),
        (OrderedDict(), "collections.OrderedDict"),
        (Size((1,)), "torch.Size"),
        (Opaque("a.B"), "a.B"),
        (Record("m.C"), "m.C"),
        (np.zeros(1), "numpy.ndarray"),
        (TensorValue("float32", (), np.zeros(())), "torch.Tensor"),
    ],
)
def test_types(value: Any, expected: str) -> None:
    assert type_name(value) == expected


def test_unknown_is_neither_none_nor_equal_to_anything() -> None:
    unknown = Unknown("optimizer.param_groups.0.lr", "its file is not here")
    assert unknown is not None
    assert unknown != Unknown("optimizer.param_groups.0.lr", "its file is not here")
    assert not unknown
    assert repr(unknown) == "unknown"
    assert to_json({"lr": unknown}) == {"lr": {"__unknown__": "its file is not here"}}
    assert equal_values([unknown], [1.0]) is None
    assert equal_values([unknown, 1], [unknown, 2]) is False
