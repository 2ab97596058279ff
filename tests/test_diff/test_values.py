"""Numbers of two checkpoints compared, with plain NumPy as the truth."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpctl import open_checkpoint
from dcpctl.diff import values_stream, values_sums, values_work
from dcpctl.diff.values import (
    CHECKSUMS,
    READ,
    SAME_BYTES,
    ValueDifference,
    compare_values,
    proven_by_crc,
)
from dcpctl.errors import MalformedItem, TruncatedFile
from tests.test_writing.building import make, numbers

KINDS = {
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "complex64": np.dtype("<c8"),
    "int64": np.dtype("<i8"),
    "uint8": np.dtype("|u1"),
    "bool": np.dtype("|b1"),
}
Tensors = Mapping[str, tuple[np.ndarray, str, Any]]


def compare(a: Path, b: Path, **options: Any) -> list[ValueDifference]:
    with open_checkpoint(a) as left, open_checkpoint(b) as right:
        pairs = [(entry, right.tensors[fqn]) for fqn, entry in left.tensors.items()]
        return list(compare_values(pairs, **options))


def one(
    place: Path, a: np.ndarray, b: np.ndarray, dtypes: tuple[str, str], **options: Any
) -> ValueDifference:
    """Compare two arrays, saved whole."""
    tiles = (1,) * a.ndim
    first = make(place / "a", {"w": (a, dtypes[0], tiles)})
    second = make(place / "b", {"w": (b, dtypes[1], tiles)})
    (found,) = compare(first, second, **options)
    return found


@contextmanager
def small_blocks() -> Iterator[None]:
    """Blocks, units and steps so small that a test tensor has seams between all of them."""
    with (
        patch.object(values_stream, "BLOCK_BYTES", 64),
        patch.object(values_work, "UNIT_BYTES", 192),
        patch.object(values_sums, "STEP", 8),
        patch.object(values_sums, "_SERIAL", 4),
    ):
        yield


# -- against NumPy --------------------------------------------------------------------------------


@st.composite
def arrays(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, tuple[str, str], list[Any]]:
    """Two arrays of one shape, their dtypes, and two tilings."""
    shape = tuple(draw(st.lists(st.integers(1, 9), max_size=3)))
    kinds = [draw(st.sampled_from(sorted(KINDS)))]
    kinds.append(kinds[0] if draw(st.booleans()) else draw(st.sampled_from(sorted(KINDS))))
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    numeric = random.integers(0, 100, shape) if draw(st.booleans()) else random.random(shape)
    a = np.asarray(numeric).astype(KINDS[kinds[0]])
    b = np.asarray(numeric).astype(KINDS[kinds[1]])
    changes = draw(st.integers(0, 4)) if a.size else 0
    for _ in range(changes):
        place = tuple(draw(st.integers(0, size - 1)) for size in shape)
        side, kind = (a, kinds[0]) if draw(st.booleans()) else (b, kinds[1])
        odd = [0.0, -0.0, 1.0, 7.5] + ([math.nan, math.inf, -math.inf] * ("8" not in kind))
        number = draw(st.sampled_from(odd if "float" in kind else [0, 1, 7]))
        side[place] = np.asarray(number).astype(side.dtype)
    tilings = [[draw(st.integers(1, 4)) for _ in shape] for _ in range(2)]
    return a, b, (kinds[0], kinds[1]), tilings


def truth(a: np.ndarray, b: np.ndarray, same_dtype: bool, tolerance: float) -> dict[str, Any]:
    """What is to be found, element by element."""
    wide = complex if "c" in (a.dtype.kind, b.dtype.kind) else float
    x, y = a.astype(wide).reshape(-1), b.astype(wide).reshape(-1)
    finite = np.isfinite(x) & np.isfinite(y)
    apart = np.where(finite, abs(x - y), 0.0)
    odd_same = (x == y) | (np.isnan(x) & np.isnan(y))
    if same_dtype:
        bits = [array.reshape(-1).view(f"V{array.itemsize}") for array in (a, b)]
        odd_same = (x == y) | np.array(
            [p.tobytes() == q.tobytes() for p, q in zip(*bits, strict=True)], bool
        )
    unequal = np.where(finite, apart > tolerance, ~odd_same)
    x, y = np.where(finite, x, 0), np.where(finite, y, 0)
    return {
        "unequal": int(unequal.sum()),
        "nonfinite": int((unequal & ~finite).sum()),
        "max_abs": float(apart.max(initial=0)),
        "distance": float(np.linalg.norm(x - y)),
        "norm_a": float(np.linalg.norm(x)),
        "norm_b": float(np.linalg.norm(y)),
        "product": float(np.real(np.vdot(y, x))),
    }


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=80, deadline=None)
@given(arrays(), st.sampled_from([0.0, 0.0, 0.5]), st.booleans(), st.integers(1, 3))
def test_any_layouts_and_dtypes(
    case: tuple[np.ndarray, np.ndarray, tuple[str, str], list[Any]],
    tolerance: float,
    trust: bool,
    threads: int,
) -> None:
    a, b, kinds, tilings = case
    with tempfile.TemporaryDirectory() as name, small_blocks():
        place = Path(name)
        first = make(place / "a", {"w": (a, kinds[0], tilings[0])})
        second = make(place / "b", {"w": (b, kinds[1], tilings[1])})
        options = {"tolerance": tolerance, "threads": threads, "trust_checksums": trust}
        (found,) = compare(first, second, **options)
        (mirrored,) = compare(second, first, **options)
    assert found.failure is None
    wanted = truth(a, b, kinds[0] == kinds[1], tolerance)
    assert (found.unequal, found.nonfinite) == (wanted["unequal"], wanted["nonfinite"])
    assert found.same == (wanted["unequal"] == 0)
    assert found.max_abs == wanted["max_abs"]
    assert found.distance == pytest.approx(wanted["distance"])
    if found.worst is not None:
        wide = complex if "c" in (a.dtype.kind, b.dtype.kind) else float
        assert abs(wide(a[found.worst]) - wide(b[found.worst])) == found.max_abs
    if not math.isnan(found.norm_a):
        assert found.norm_a == pytest.approx(wanted["norm_a"])
        assert found.norm_b == pytest.approx(wanted["norm_b"])
        if wanted["distance"] and wanted["norm_a"] and wanted["norm_b"]:
            cosine = wanted["product"] / (wanted["norm_a"] * wanted["norm_b"])
            assert found.cosine == pytest.approx(cosine)
            assert found.relative_l2 == pytest.approx(wanted["distance"] / wanted["norm_a"])
    else:
        assert wanted["distance"] == 0 or found.how != READ
    for name in ("unequal", "nonfinite", "max_abs", "distance", "how", "numel", "bytes_read"):
        assert getattr(mirrored, name) == getattr(found, name)


# -- what is proven without reading ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("tiles", "others"),
    [((1, 1), (1, 1)), ((4, 1), (4, 1)), ((2, 3), (2, 3)), ((4, 1), (3, 1)), ((1, 1), (6, 1))],
    ids=str,
)
def test_checksums_prove_equal_tensors(tiles: Any, others: Any, tmp_path: Path) -> None:
    array = numbers(6, 5)
    changed = array.copy()
    changed[5, 4] += 1
    a = make(tmp_path / "a", {"w": (array, "float32", tiles)})
    b = make(tmp_path / "b", {"w": (array, "float32", others)})
    c = make(tmp_path / "c", {"w": (changed, "float32", others)})
    (same,), (different,) = compare(a, b), compare(a, c)
    assert (same.how, same.bytes_read, same.same, same.cosine) == (CHECKSUMS, 0, True, 1.0)
    assert (same.max_abs, same.distance, same.relative_l2) == (0.0, 0.0, 0.0)
    assert (different.how, different.bytes_read, different.unequal) == (READ, 240, 1)
    assert (different.worst, different.max_abs) == ((5, 4), 1.0)
    with open_checkpoint(a) as x, open_checkpoint(b) as y, open_checkpoint(c) as z:
        assert proven_by_crc(x.tensors["w"], y.tensors["w"]) is True
        assert proven_by_crc(x.tensors["w"], z.tensors["w"]) is False


def test_nothing_is_proven_across_grids_and_dtypes(tmp_path: Path) -> None:
    array = numbers(6, 6)
    a = make(tmp_path / "a", {"w": (array, "float32", (2, 2))})
    b = make(tmp_path / "b", {"w": (array, "float32", (1, 3))})
    c = make(tmp_path / "c", {"w": (array.astype("<f8"), "float64", (2, 2))})
    with open_checkpoint(a) as x, open_checkpoint(b) as y, open_checkpoint(c) as z:
        assert proven_by_crc(x.tensors["w"], y.tensors["w"]) is None
        assert proven_by_crc(x.tensors["w"], z.tensors["w"]) is None
    for other in (b, c):
        (found,) = compare(a, other)
        assert (found.how, found.same) == (READ, True)


def test_checksums_that_were_not_recorded_prove_nothing(tmp_path: Path) -> None:
    array = numbers(40)
    with patch("tests.test_writing.building.crc32", lambda data: 0):
        paths = [make(tmp_path / x, {"w": (array, "float32", (2,))}) for x in "ab"]
    with open_checkpoint(paths[0]) as a, open_checkpoint(paths[1]) as b:
        proven = proven_by_crc(a.tensors["w"], b.tensors["w"])
    (found,) = compare(*paths)
    assert proven is None
    assert (found.how, found.same) == (READ, True)


def test_the_files_of_one_inode_are_not_read(tmp_path: Path) -> None:
    tensors = {"w": (numbers(6, 4), "float32", (3, 1)), "v": (numbers(5), "float32", (1,))}
    a = make(tmp_path / "a", tensors)
    shutil.copytree(a, tmp_path / "b", copy_function=os.link)
    shutil.copytree(a, tmp_path / "c")
    linked = compare(a, tmp_path / "b", trust_checksums=False)
    copied = compare(a, tmp_path / "c", trust_checksums=False)
    assert [found.how for found in linked] == [SAME_BYTES] * 2
    assert [found.how for found in copied] == [READ] * 2
    assert all(found.same for found in linked + copied)


def test_rot_is_seen_where_checksums_are_not_trusted(tmp_path: Path) -> None:
    a = make(tmp_path / "a", {"w": (numbers(64), "float32", (1,))}, ranks=1)
    shutil.copytree(a, tmp_path / "b")
    file = tmp_path / "b" / "__0_0.distcp"
    data = bytearray(file.read_bytes())
    at = data.find(numbers(64).tobytes())
    data[at + 40] ^= 0x10
    file.write_bytes(data)
    (trusted,) = compare(a, tmp_path / "b")
    (read,) = compare(a, tmp_path / "b", trust_checksums=False)
    assert (trusted.how, trusted.same) == (CHECKSUMS, True)
    assert (read.unequal, read.worst) == (1, (10,))


def test_an_empty_tensor_is_equal(tmp_path: Path) -> None:
    found = one(tmp_path, numbers(0, 3), numbers(0, 3), ("float32", "bfloat16"))
    assert (found.same, found.numel, found.unequal, found.failure) == (True, 0, 0, None)


# -- what counts as equal -------------------------------------------------------------------------

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("a", "b", "unequal", "nonfinite", "max_abs"),
    [
        ([0.0, 1.0], [-0.0, 1.0], 0, 0, 0.0),
        ([NAN, 1.0], [NAN, 1.0], 0, 0, 0.0),
        ([NAN, 1.0], [0.0, 1.5], 2, 1, 0.5),
        ([INF, 1.0], [INF, 1.0], 0, 0, 0.0),
        ([INF, -INF], [-INF, 3.0], 2, 2, 0.0),
        ([INF, NAN, 1.0], [INF, NAN, 2.0], 1, 0, 1.0),
    ],
)
@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("float32", "bfloat16")], ids=str)
def test_zeros_nan_and_infinities(
    a: list[float],
    b: list[float],
    unequal: int,
    nonfinite: int,
    max_abs: float,
    dtypes: tuple[str, str],
    tmp_path: Path,
) -> None:
    x, y = (np.array(side).astype(KINDS[dtype]) for side, dtype in zip((a, b), dtypes, strict=True))
    found = one(tmp_path, x, y, dtypes)
    assert (found.unequal, found.nonfinite, found.max_abs) == (unequal, nonfinite, max_abs)


def test_nan_of_other_bits_is_unequal(tmp_path: Path) -> None:
    a = np.array([NAN, 2.0], "<f4")
    b = a.copy()
    b.view("<u4")[0] ^= 1
    found = one(tmp_path, a, b, ("float32", "float32"))
    assert (found.unequal, found.nonfinite, found.norm_a) == (1, 1, 2.0)


def test_the_tolerance_is_of_the_difference(tmp_path: Path) -> None:
    a = np.array([1.0, 2.0, 3.0], "<f8")
    found = one(tmp_path, a, a + np.array([0.0, 0.25, 0.5]), ("float64", "float64"), tolerance=0.25)
    assert (found.unequal, found.max_abs, found.worst) == (1, 0.5, (2,))
    (all_right,) = compare(tmp_path / "a", tmp_path / "b", tolerance=0.5)
    assert all_right.same
    assert all_right.max_abs == 0.5


def test_large_integers_keep_their_last_digits(tmp_path: Path) -> None:
    a = np.array([1 << 62, -(1 << 63), 5], "<i8")
    b = np.array([(1 << 62) + 1, (1 << 63) - 1, 5], "<i8")
    found = one(tmp_path, a, b, ("int64", "int64"))
    assert (found.unequal, found.max_abs, found.worst) == (2, float((1 << 64) - 1), (1,))


def test_pairs_of_halves_are_complex(tmp_path: Path) -> None:
    kind = np.dtype([("real", "<f2"), ("imag", "<f2")])
    a = np.array([(3.0, 4.0), (1.0, 0.0)], kind)
    b = np.array([(0.0, 0.0), (1.0, 0.0)], kind)
    found = one(tmp_path, a, b, ("complex32", "complex32"))
    assert (found.unequal, found.max_abs, found.worst) == (1, 5.0, (0,))


def test_packed_numbers_are_compared_as_bytes(tmp_path: Path) -> None:
    a, b = np.array([0x12, 0x34], "|u1"), np.array([0x12, 0x35], "|u1")
    found = one(tmp_path, a, b, ("float4_e2m1fn_x2", "float4_e2m1fn_x2"))
    assert (found.unequal, found.max_abs, found.cosine) == (1, None, None)
    assert not found.same


def test_a_tensor_that_became_zeros(tmp_path: Path) -> None:
    a = numbers(5)
    found = one(tmp_path, a, np.zeros_like(a), ("float32", "float32"))
    assert (found.relative_l2, found.cosine) == (1.0, None)
    (back,) = compare(tmp_path / "b", tmp_path / "a")
    assert (back.relative_l2, back.cosine) == (math.inf, None)


# -- many at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_order_and_progress(threads: int, tmp_path: Path) -> None:
    tensors = {f"w{n}": (numbers(50 + n), "float32", (1 + n % 4,)) for n in range(40)}
    others = {
        fqn: (array + (n % 3 == 0), "float32", (1 + n % 3,))
        for n, (fqn, (array, _dtype, _tiles)) in enumerate(tensors.items())
    }
    a, b = make(tmp_path / "a", tensors, ranks=4), make(tmp_path / "b", others, ranks=3)
    seen: list[tuple[int, int]] = []
    with small_blocks():
        found = compare(
            a,
            b,
            threads=threads,
            progress=lambda done, total: seen.append((done, total)),
            trust_checksums=False,
        )
    assert [difference.a for difference in found] == list(tensors)
    assert [difference.same for difference in found] == [n % 3 != 0 for n in range(40)]
    total = sum(2 * array.nbytes for array, _dtype, _tiles in tensors.values())
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


def test_one_damaged_item_does_not_end_the_comparison(tmp_path: Path) -> None:
    tensors = {f"w{n}": (numbers(500), "float32", (1,)) for n in range(3)}
    a = make(tmp_path / "a", tensors, ranks=1)
    b = make(tmp_path / "b", tensors, ranks=1)
    file = b / "__0_0.distcp"
    with open_checkpoint(b) as checkpoint:
        chunk = checkpoint.tensors["w1"].chunks[0]
    data = bytearray(file.read_bytes())
    data[chunk.offset + chunk.length - 22] ^= 0xFF  # of the end record's signature
    file.write_bytes(data)
    for trust in (True, False):
        found = compare(a, b, trust_checksums=trust)
        assert [difference.same for difference in found] == [True, False, True]
        assert isinstance(found[1].failure, MalformedItem)
    file.write_bytes(data[: chunk.offset])
    found = compare(a, b, trust_checksums=False)
    assert [type(difference.failure) for difference in found] == [
        type(None),
        TruncatedFile,
        TruncatedFile,
    ]


def test_a_consumer_that_stops_leaves_no_thread_behind(tmp_path: Path) -> None:
    tensors = {f"w{n}": (numbers(300), "float32", (2,)) for n in range(30)}
    a, b = make(tmp_path / "a", tensors), make(tmp_path / "b", tensors)
    with open_checkpoint(a) as x, open_checkpoint(b) as y, small_blocks():
        pairs = [(entry, y.tensors[fqn]) for fqn, entry in x.tensors.items()]
        differences = compare_values(pairs, threads=2, trust_checksums=False)
        assert next(differences).same
        differences.close()


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        one(tmp_path, numbers(4), numbers(5), ("float32", "float32"))


# -- real checkpoints -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["zstd", "safetensors_format", "hf_sharded", "dtensor_zoo"])
def test_other_encodings(form: str, shared: Path, tmp_path: Path) -> None:
    (path,) = [
        place
        for place in sorted((shared / "checkpoints" / "2.13.0" / form).iterdir())
        if place.is_dir()
    ]
    shutil.copytree(path, tmp_path / "copy")
    found = compare(path, tmp_path / "copy", trust_checksums=False)
    assert found
    assert all(difference.same and difference.how == READ for difference in found)
