"""Casts: torch is the oracle, bit for bit where it gives numbers."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest

from dcpctl import open_checkpoint
from dcpctl.errors import Refused
from dcpctl.formats import dtypes
from dcpctl.model.draft import Draft
from dcpctl.writing.casting import cast, check_cast
from tests.test_writing.building import make, numbers, run

FLOATS = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
OTHERS = ["int64", "int32", "int8", "uint8", "bool"]


def samples(dtype: str) -> np.ndarray:
    """All bit patterns of a small dtype; of a large one the ties, the extremes and random bits."""
    kind = dtypes.numpy_dtype(dtype)
    generator = np.random.default_rng(0)
    if kind.itemsize <= 2:
        return np.arange(1 << (8 * kind.itemsize)).astype(f"<u{kind.itemsize}").view(kind)
    if dtypes.info(dtype).kind == "int":
        info = np.iinfo(kind)
        small = np.arange(-3000, 3000)
        edges = [info.min, info.max, *(1 << n for n in range(kind.itemsize * 8 - 1))]
        return np.concatenate([small, np.array(edges)]).astype(kind)
    bits = generator.integers(0, 1 << 63, 20_000, dtype=np.uint64) * 2
    random = bits.view("<f8") if kind.itemsize == 8 else bits.astype("<u4").view("<f4")
    # Halfway between two bfloat16s, and a little beside it: what is rounded twice differs there.
    halves = np.arange(0x3F80, 0x4080, dtype="<u4") << 16 | 0x8000
    ties = halves.astype("<u4").view("<f4").astype("<f8")
    beside = np.concatenate([ties, ties * (1 + 1e-12), ties * (1 - 1e-12), -ties])
    extremes = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.99, 65520, 448, 464, 465])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.concatenate([random.astype("<f8"), beside, extremes]).astype(kind)


@pytest.mark.parametrize("target", FLOATS + OTHERS)
@pytest.mark.parametrize("source", FLOATS + OTHERS)
def test_as_torch(torch, source, target):
    from dcpctl.torch_bridge import as_tensor

    array = samples(source)
    if target in OTHERS and target != "bool" and source in FLOATS:
        # What lies outside an integer's range has no defined result, in torch either.
        with np.errstate(all="ignore"):
            wide = array.astype("f8")
        limit = np.iinfo(dtypes.numpy_dtype(target))
        array = array[np.isfinite(wide) & (wide > limit.min) & (wide < limit.max)]
    if target == "float8_e4m3fn" and torch.tensor(1e4).to(torch.float8_e4m3fn).isnan():
        with np.errstate(all="ignore"):  # an older release, which does not stop at the largest
            array = array[~(np.abs(array.astype("f8")) > 464)]
    made = cast(array, source, target)
    assert made.dtype == dtypes.numpy_dtype(target)
    wanted = as_tensor(array, source).to(getattr(torch, target))
    found = as_tensor(made, target)
    if target in FLOATS:
        left, right = wanted.to(torch.float64), found.to(torch.float64)
        assert torch.equal(left.isnan(), right.isnan())
        number = ~left.isnan()
        assert torch.equal(left[number], right[number])
        assert torch.equal(left[number].signbit(), right[number].signbit())
    else:
        assert torch.equal(wanted, found)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("complex64", "float32"),
        ("float32", "float8_e8m0fnu"),
        ("qint8", "int8"),
        ("float32", "int4"),
    ],
)
def test_refusals(source, target):
    with pytest.raises(Refused, match=target):
        check_cast(source, target, "'w'")


def test_complex_to_complex():
    check_cast("complex64", "complex128", "'w'")
    assert cast(np.array([1 + 2j], "<c8"), "complex64", "complex128")[0] == 1 + 2j


def test_a_cast_keeps_chunks_and_files(tmp_path):
    array = numbers(1000, 30) / 7
    tensors = {"w": (array.astype("<f4"), "float32", (3, 1)), "n": (numbers(5), "float32", (1,))}
    source = make(tmp_path / "s", tensors, {"lr": 0.1})
    with open_checkpoint(source) as checkpoint:
        draft = Draft.of(checkpoint)
        w = dataclasses.replace(draft.entries["w"], dtype="bfloat16")
        entries = {**draft.entries, "w": w}
        report = run(draft.with_entries(entries.values(), draft.planner_data), tmp_path / "out")
        assert report.counts.cast == ("w",)
        with open_checkpoint(tmp_path / "out") as result:
            assert result["w"].dtype == "bfloat16"
            assert result["w"].num_chunks == 3
            assert result["w"].ranks == checkpoint["w"].ranks
            wanted = cast(array.astype("<f4"), "float32", "bfloat16")
            assert result["w"].numpy().tobytes() == wanted.tobytes()
            assert result["lr"].value == 0.1
