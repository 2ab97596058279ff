"""The dtype table against NumPy, ml_dtypes and torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from dcpctl.errors import MissingDependency, UnknownForm
from dcpctl.formats import dtypes


@pytest.mark.parametrize("name", dtypes.DTYPES)
def test_numpy_dtype_has_the_itemsize(name):
    row = dtypes.info(name)
    made = dtypes.numpy_dtype(name)
    assert row.name == name
    assert made.itemsize == row.itemsize == dtypes.itemsize(name)
    assert np.frombuffer(bytes(row.itemsize * 3), made).shape == (3,)


def test_numbers_are_little_endian():
    assert np.array([1], dtypes.numpy_dtype("int32")).tobytes() == b"\1\0\0\0"
    assert np.array([1], dtypes.numpy_dtype("bfloat16")).tobytes() == b"\x80\x3f"
    pair = np.frombuffer(b"\x00\x3c\x00\xc0", dtypes.numpy_dtype("complex32"))
    assert (pair["real"][0], pair["imag"][0]) == (1.0, -2.0)


def test_unknown_names_are_refused():
    with pytest.raises(UnknownForm, match="unknown dtype 'float12'"):
        dtypes.numpy_dtype("float12")
    with pytest.raises(UnknownForm):
        dtypes.itemsize("")


def test_codes_are_unique():
    for field in ("safetensors", "storage_class"):
        codes = [getattr(row, field) for row in dtypes.DTYPES.values() if getattr(row, field)]
        assert len(codes) == len(set(codes))
    assert dtypes.BY_SAFETENSORS["BF16"].name == "bfloat16"
    assert dtypes.BY_STORAGE_CLASS["HalfStorage"].name == "float16"


def test_without_ml_dtypes_only_its_types_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert dtypes.numpy_dtype("float16") == np.float16
    with pytest.raises(MissingDependency, match="bfloat16 needs the package ml_dtypes"):
        dtypes.numpy_dtype("bfloat16")


def test_the_table_imports_no_numpy():
    code = "import sys, dcpctl.formats.dtypes; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_torch_agrees(torch):
    for name, row in dtypes.DTYPES.items():
        dtype = getattr(torch, name, None)
        if dtype is not None:
            assert (str(dtype), dtype.itemsize) == (f"torch.{name}", row.itemsize)
        if row.storage_class:
            assert getattr(torch, row.storage_class).dtype == dtype
    known = {str(v)[6:] for v in vars(torch).values() if isinstance(v, torch.dtype)}
    assert known <= set(dtypes.DTYPES)
