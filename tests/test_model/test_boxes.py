"""Index expressions, overlaps and coverage, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from dcpctl.model import boxes

SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data(), shape=SHAPES)
def test_an_index_means_what_numpy_says(data: Any, shape: tuple[int, ...]) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape)
    key = data.draw(npst.basic_indices(shape, allow_newaxis=False))
    starts, stops, view = boxes.resolve(key, shape)
    box = array[tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))]
    assert np.array_equal(box[view], array[key])


@pytest.mark.parametrize("key", [(0, 0, 0), 4, -5, (..., ...), (slice(None), 9)])
def test_indices_out_of_bounds(key: Any) -> None:
    with pytest.raises(IndexError):
        boxes.resolve(key, (4, 3))


@pytest.mark.parametrize("key", [None, "a", 1.0, [0]])
def test_indices_of_other_kinds(key: Any) -> None:
    with pytest.raises(TypeError):
        boxes.resolve(key, (4, 3))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(sizes=npst.array_shapes(min_dims=0, max_dims=4, max_side=7), most=st.integers(1, 60))
def test_a_split_box_is_whole(sizes: tuple[int, ...], most: int) -> None:
    seen = np.zeros(sizes, dtype=int)
    for starts, stops in boxes.split(sizes, most):
        part = seen[(..., *(slice(a, b) for a, b in zip(starts, stops, strict=True)))]
        assert 0 < part.size <= most
        part += 1
    assert (seen == 1).all()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data(), shape=npst.array_shapes(min_dims=1, max_dims=3, max_side=5))
def test_cover_ticks_off_every_element(data: Any, shape: tuple[int, ...]) -> None:
    places = []
    held = np.zeros(shape, dtype=bool)
    for _ in range(data.draw(st.integers(0, 6))):
        ends = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in shape]
        place = tuple(slice(a, b) for a, b in ends)
        places.append(place)
        held[place] = True
    assert boxes.cover(shape, places) == bool(held.all())


def test_overlap_does_not_make_up_for_a_hole() -> None:
    """Six elements in two boxes of three, and yet two are missing."""
    assert not boxes.cover((6,), [(slice(0, 3),), (slice(1, 4),)])
    assert boxes.cover((6,), [(slice(0, 3),), (slice(3, 6),)])
    assert boxes.cover((), [()])
