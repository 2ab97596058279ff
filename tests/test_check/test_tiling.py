from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpctl.check import tiling
from dcpctl.check.tiling import tile
from dcpctl.formats.records import ChunkTable

MOST = (1 << 63) - 1


def table(*boxes: tuple[tuple[int, ...], tuple[int, ...]]) -> ChunkTable:
    count = len(boxes)
    dims = len(boxes[0][0]) if boxes else 0
    return ChunkTable(
        np.array([b[0] for b in boxes], dtype=np.int64).reshape(count, dims),
        np.array([b[1] for b in boxes], dtype=np.int64).reshape(count, dims),
        np.zeros(count, dtype=np.int32),
        np.zeros(count, dtype=np.int64),
        np.zeros(count, dtype=np.int64),
    )


def test_rows_of_a_sharded_tensor_tile_it() -> None:
    found = tile((8, 4), table(((0, 0), (4, 4)), ((4, 0), (4, 4))))
    assert found.sound
    assert found.covered == found.numel == 32


def test_a_hole_is_told_as_a_box() -> None:
    found = tile((8, 4), table(((0, 0), (4, 4)), ((6, 0), (2, 4))))
    assert (found.covered, found.numel) == (24, 32)
    assert found.holes == [((4, 0), (6, 4))]
    assert not found.sound


def test_a_hole_in_a_grid_is_found_although_the_volume_is_right() -> None:
    chunks = table(((0, 0), (2, 2)), ((0, 2), (2, 2)), ((2, 0), (2, 2)), ((1, 0), (2, 2)))
    found = tile((4, 4), chunks)
    assert found.doubled == 4
    assert found.covered == 12
    assert found.holes == [((2, 2), (4, 4))]
    assert found.overlap is not None
    assert found.overlap[:2] == (0, 3)
    assert found.overlap[2] == ((1, 0), (2, 2))


def test_copies_are_repeated_and_no_overlap() -> None:
    found = tile((4,), table(((0,), (2,)), ((2,), (2,)), ((0,), (2,))))
    assert found.repeated.tolist() == [2]
    assert (found.covered, found.doubled, found.overlap) == (4, 0, None)


def test_empty_shards_are_no_chunks() -> None:
    assert tile((3, 5), table(((0, 0), (3, 5)), ((3, 0), (0, 5)), ((3, 0), (0, 5)))).sound


def test_a_scalar_has_one_chunk() -> None:
    assert tile((), table(((), ()))).sound
    assert tile((), table(((), ()), ((), ()))).repeated.tolist() == [1]


def test_a_scalar_without_chunk_is_a_hole() -> None:
    found = tile((), table())
    assert found.holes == [((), ())]
    assert (found.covered, found.numel) == (0, 1)


def test_an_empty_tensor_needs_no_chunk() -> None:
    assert tile((0, 4), table()).sound
    assert tile((0, 4), table(((0, 0), (0, 4)))).sound


@pytest.mark.parametrize(
    ("offsets", "sizes"),
    [
        ((-1, 0), (2, 4)),
        ((0, 0), (-1, 4)),
        ((7, 0), (2, 4)),
        ((0, 5), (8, 0)),
        ((MOST, 0), (1, 4)),
        ((1, 0), (MOST, 4)),
        ((-MOST, 0), (MOST, 4)),
        ((0, 0), (-MOST - 1, 4)),
    ],
)
def test_what_reaches_out_is_outside(offsets: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    found = tile((8, 4), table((offsets, sizes), ((0, 0), (8, 4))))
    assert found.outside.tolist() == [0]
    assert found.covered == 32


def test_numbers_beyond_64_bits_do_not_overflow() -> None:
    shape = (1 << 40, 1 << 40)
    found = tile(shape, table(((0, 0), (1 << 40, 5)), ((0, 6), (1 << 40, (1 << 40) - 6))))
    assert found.covered == (1 << 80) - (1 << 40)
    assert found.holes == [((0, 5), (1 << 40, 6))]


def test_more_cells_than_one_grid_are_cut_into_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "_GRID_CELLS", 8)
    rows = [((i, j), (1, 1)) for i in range(6) for j in range(6)]
    assert tile((6, 6), table(*rows)).sound
    assert tile((6, 6), table(*rows[:7], *rows[8:])).holes == [((1, 1), (2, 2))]


def test_chunks_of_no_layout_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "_GRID_CELLS", 8)
    monkeypatch.setattr(tiling, "_ALL_CELLS", 100)
    rows = [((i, j), (1, 1)) for i in range(30) for j in range(30)]
    found = tile((30, 30), table(*rows))
    assert found.irregular
    assert not found.sound


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, ...], list[tuple[tuple[int, ...], ...]]]:
    dims = draw(st.integers(1, 3))
    shape = tuple(draw(st.lists(st.integers(0, 5), min_size=dims, max_size=dims)))
    numbers = st.lists(st.integers(-2, 7), min_size=dims, max_size=dims).map(tuple)
    boxes = draw(st.lists(st.tuples(numbers, numbers), max_size=6))
    return shape, boxes


@settings(max_examples=300, deadline=None)
@given(layouts(), st.sampled_from([4, 1 << 20]))
def test_counts_are_those_of_counting_every_element(
    layout: tuple[tuple[int, ...], list[tuple[tuple[int, ...], ...]]], cells: int
) -> None:
    shape, boxes = layout
    held = np.zeros(shape, dtype=int)
    distinct = set()
    for offsets, sizes in boxes:
        if min(sizes) > 0 and (offsets, sizes) not in distinct:
            distinct.add((offsets, sizes))
            held[tuple(slice(max(o, 0), max(o + n, 0)) for o, n in zip(offsets, sizes))] += 1  # noqa: B905
    before = tiling._GRID_CELLS
    tiling._GRID_CELLS = cells
    try:
        found = tile(shape, table(*boxes))
    finally:
        tiling._GRID_CELLS = before
    assert found.covered == (held > 0).sum()
    assert found.doubled == (held > 1).sum()
    assert bool(found.holes) == bool((held == 0).any())
    for starts, stops in found.holes:
        assert (held[tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))] == 0).all()


def test_a_hundred_thousand_chunks_take_a_moment() -> None:
    offsets = np.stack([np.arange(1024) // 32 * 4, np.arange(1024) % 32 * 8], axis=1)
    chunks = ChunkTable(
        offsets.astype(np.int64),
        np.tile(np.array([4, 8], dtype=np.int64), (1024, 1)),
        *(np.zeros(1024, dtype=kind) for kind in (np.int32, np.int64, np.int64)),
    )
    begin = time.perf_counter()
    for _ in range(100):
        assert tile((128, 256), chunks).sound
    assert time.perf_counter() - begin < 3
