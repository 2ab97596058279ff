"""Statistics against NumPy on the whole tensor, for every kind of number."""

from __future__ import annotations

from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from dcpctl.errors import UnknownForm
from dcpctl.inspect.statistics import statistics


def entry(array: np.ndarray, dtype: str, pieces: int = 3):
    return SimpleNamespace(
        fqn="w",
        dtype=dtype,
        shape=array.shape,
        blocks=lambda _: iter(np.array_split(array.reshape(-1), pieces)),
    )


@pytest.mark.parametrize("pieces", [1, 3, 1000])
@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        ("float64", np.float64),
        ("float32", np.float32),
        ("float16", np.float16),
        ("bfloat16", ml_dtypes.bfloat16),
        ("float8_e4m3fn", ml_dtypes.float8_e4m3fn),
        ("float8_e5m2", ml_dtypes.float8_e5m2),
    ],
)
def test_floats(dtype: str, kind: type, pieces: int) -> None:
    array = np.random.default_rng(1).normal(3, 2, 999).astype(kind)
    array[5:8] = 0
    found = statistics(entry(array, dtype, pieces))
    wide = array.astype(np.float64)
    assert (found.min, found.max) == (wide.min(), wide.max())
    assert found.mean == pytest.approx(wide.mean(), rel=1e-12)
    assert found.std == pytest.approx(wide.std(), rel=1e-12)
    assert (found.count, found.zeros) == (999, np.count_nonzero(wide == 0))
    assert (found.nans, found.infs) == (0, 0)


def test_a_large_mean_does_not_drown_the_deviation() -> None:
    array = 1e9 + np.arange(1000, dtype=np.float64)
    assert statistics(entry(array, "float64")).std == pytest.approx(np.arange(1000).std())


def test_nan_and_inf_are_counted_apart() -> None:
    array = np.array([1, np.nan, np.inf, -np.inf, 3, 0], dtype=np.float32)
    found = statistics(entry(array, "float32"))
    assert (found.nans, found.infs, found.zeros, found.count) == (1, 2, 1, 6)
    assert (found.min, found.max, found.mean) == (0, 3, pytest.approx(4 / 3))


@pytest.mark.parametrize("array", [np.array([], np.float32), np.full(3, np.nan, np.float32)])
def test_nothing_finite(array: np.ndarray) -> None:
    found = statistics(entry(array, "float32", 1))
    assert (found.min, found.max, found.mean, found.std) == (None, None, None, None)


def test_integers_keep_all_their_digits() -> None:
    array = np.array([-(2**63), 2**63 - 1, 0], dtype=np.int64)
    found = statistics(entry(array, "int64"))
    assert (found.min, found.max, found.zeros) == (-(2**63), 2**63 - 1, 1)
    assert statistics(entry(np.array([2**64 - 1], np.uint64), "uint64")).max == 2**64 - 1


def test_bools_are_zeros_and_ones() -> None:
    found = statistics(entry(np.array([True, False, True, True]), "bool"))
    assert (found.min, found.max, found.mean, found.zeros) == (0, 1, 0.75, 1)
    assert type(found.min) is int


def test_complex_numbers_have_extremes_of_magnitude() -> None:
    array = np.array([3 + 4j, 1j, complex("nan"), complex("inf")], dtype=np.complex64)
    found = statistics(entry(array, "complex64"))
    assert (found.min, found.max, found.nans, found.infs) == (1, 5, 1, 1)
    assert found.mean == pytest.approx(1.5 + 2.5j)
    assert found.std == pytest.approx(array[:2].std())


def test_half_complex_is_a_pair() -> None:
    array = np.zeros(2, dtype=[("real", "<f2"), ("imag", "<f2")])
    array["real"], array["imag"] = [3, 0], [4, 0]
    found = statistics(entry(array, "complex32"))
    assert (found.min, found.max, found.zeros) == (0, 5, 1)


@pytest.mark.parametrize("dtype", ["qint8", "float4_e2m1fn_x2", "int4"])
def test_packed_elements_are_no_numbers(dtype: str) -> None:
    with pytest.raises(UnknownForm, match=dtype):
        statistics(entry(np.zeros(3, np.uint8), dtype))


def test_progress_is_told_of_all_bytes() -> None:
    told: list[int] = []
    statistics(entry(np.zeros(100, np.float32), "float32"), told.append)
    assert sum(told) == 400
