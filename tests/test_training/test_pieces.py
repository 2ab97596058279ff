"""The elements that a rank holds, found again in the whole tensor."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from dcpctl.training.pieces import Box, Span, boxes, positions  # noqa: E402

SHAPES = st.lists(st.integers(1, 5), max_size=4).map(tuple)


def whole(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)


def at(tensor: torch.Tensor, run: object) -> list[float]:
    """The run's elements of the whole tensor."""
    if not tensor.dim():
        return [tensor.item()]
    return tensor[(*run.row, slice(run.start, run.stop))].tolist()


@given(SHAPES, st.data())
def test_a_box(shape: tuple[int, ...], data: st.DataObject) -> None:
    offsets = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
    sizes = [data.draw(st.integers(1, s - o)) for s, o in zip(shape, offsets, strict=True)]
    tensor = whole(shape)
    local = tensor[tuple(slice(o, o + s) for o, s in zip(offsets, sizes, strict=True))]
    box = Box(shape, offsets, local)
    position = data.draw(st.integers(0, box.numel - 1))
    run = box.run_at(position, 3)
    values = box.values(run).tolist()
    assert values == at(tensor, run)
    assert values[0] == local.reshape(-1)[position]
    assert 1 <= len(values) <= 3


@given(SHAPES, st.data())
def test_a_span(shape: tuple[int, ...], data: st.DataObject) -> None:
    offsets = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
    sizes = tuple(data.draw(st.integers(1, s - o)) for s, o in zip(shape, offsets, strict=True))
    tensor = whole(shape)
    part = tensor[tuple(slice(o, o + s) for o, s in zip(offsets, sizes, strict=True))].reshape(-1)
    start = data.draw(st.integers(0, part.numel() - 1))
    count = data.draw(st.integers(1, part.numel() - start))
    span = Span(shape, offsets, sizes, start, part[start : start + count])
    position = data.draw(st.integers(0, count - 1))
    run = span.run_at(position, 3)
    values = span.values(run).tolist()
    assert values == at(tensor, run)
    assert values[0] == part[start + position]
    assert 1 <= len(values) <= 3


def test_a_plain_tensor_is_one_box() -> None:
    assert [(box.offsets, box.numel) for box in boxes(torch.zeros(2, 3))] == [((0, 0), 6)]
    assert [box.numel for box in boxes(torch.zeros(()))] == [1]
    assert list(boxes(torch.zeros(0, 3))) == []


@given(st.integers(0, 1000), st.integers(1, 6), st.text())
def test_positions(numel: int, count: int, seed: str) -> None:
    found = positions(numel, count, seed)
    assert found == positions(numel, count, seed)
    assert all(0 <= place < numel for place in found)
    assert len(found) == len(set(found)) <= count
    assert bool(found) == bool(numel)
    if numel >= count:
        assert len(found) == count
