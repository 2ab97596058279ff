"""Boxes out of chunks: any grid into any other, in every encoding, with every checksum compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dcpctl import open_checkpoint
from dcpctl.errors import ChecksumMismatch, MalformedItem
from dcpctl.formats import dtypes
from dcpctl.model.draft import Draft, TensorDraft
from dcpctl.model.source import Fill
from dcpctl.writing import gather, sink
from dcpctl.writing.plan import plan
from dcpctl.writing.write import write
from tests.test_writing.building import assert_same, grid, make, numbers, resharded, run

GRIDS = [(1, 1, 1), (4, 1, 1), (1, 3, 1), (1, 1, 5), (2, 3, 1), (3, 1, 2), (2, 2, 2), (9, 9, 9)]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """So that every tensor is written in several blocks."""
    monkeypatch.setattr(gather, "BLOCK_BYTES", 96)


def regridded(draft: Draft, parts, ranks: int = 2) -> Draft:
    entries = [
        dataclasses.replace(e, grid=grid(e.shape, parts, ranks))
        if isinstance(e, TensorDraft)
        else e
        for e in draft.entries.values()
    ]
    return dataclasses.replace(draft.with_entries(entries, None), world_size=ranks)


@pytest.mark.parametrize("after", GRIDS, ids=str)
@pytest.mark.parametrize("before", GRIDS, ids=str)
def test_every_grid_into_every_other(before, after, tmp_path):
    source = make(tmp_path / "s", {"w": (numbers(9, 7, 5), "float32", before)})
    with open_checkpoint(source) as checkpoint:
        run(regridded(Draft.of(checkpoint), after), tmp_path / "out")
    assert_same(source, tmp_path / "out")


@pytest.mark.parametrize("before", [(1, 1), (3, 1), (1, 3), (2, 2)], ids=str)
@pytest.mark.parametrize("after", [(1, 1), (2, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("byte", [0, 40, -1])
def test_a_flipped_bit_is_refused_in_every_grid(before, after, byte, tmp_path):
    array = numbers(8, 6)
    source = make(tmp_path / "s", {"w": (array, "float32", before)})
    with open_checkpoint(source) as checkpoint:
        last = checkpoint["w"].chunks[len(checkpoint["w"].chunks) - 1]
        box = tuple(slice(a, a + n) for a, n in zip(last.offsets, last.sizes, strict=True))
        data = np.ascontiguousarray(array[box]).tobytes()
    file = source / f"__{last.file}_0.distcp"
    raw = bytearray(file.read_bytes())
    start = raw.index(data)
    raw[range(start, start + len(data))[byte]] ^= 0x10
    file.write_bytes(raw)
    with (
        open_checkpoint(source) as checkpoint,
        pytest.raises(ChecksumMismatch, match=r"'w'.*CRC-32"),
    ):
        run(regridded(Draft.of(checkpoint), after), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_hole_is_refused(tmp_path):
    source = make(tmp_path / "s", {"w": (numbers(8, 6), "float32", (2, 1))})
    with open_checkpoint(source) as checkpoint:
        w = checkpoint["w"]
        w.chunks.offsets[1, 0] = 5  # immutable by promise only
        made = plan(resharded(Draft.of(checkpoint), 3), tmp_path / "out")
        with pytest.raises(MalformedItem, match="cover"):
            write(made)


def test_overlapping_chunks_are_refused(tmp_path):
    source = make(tmp_path / "s", {"w": (numbers(8, 6), "float32", (2, 1))})
    with open_checkpoint(source) as checkpoint:
        checkpoint["w"].chunks.offsets[1, 0] = 3
        made = plan(regridded(Draft.of(checkpoint), (1, 2)), tmp_path / "out")
        with pytest.raises(MalformedItem, match=r"cover|overlap"):
            write(made)


@pytest.mark.parametrize("form", ["zstd", "releases/2.15.0-zstd", "releases/2.13.0-hf_sharded"])
@pytest.mark.parametrize("ranks", [1, 3])
def test_other_encodings_are_read(samples: Path, form, ranks, tmp_path):
    with open_checkpoint(samples / form) as checkpoint:
        run(resharded(Draft.of(checkpoint), ranks), tmp_path / "out", to="dcp")
    assert_same(samples / form, tmp_path / "out")
    with open_checkpoint(tmp_path / "out") as result:
        assert all(e.stored.encoding == "torch" for e in result.tensors.values())
        assert not any(e.stored.transforms for e in result.tensors.values())


def test_transforms_stay_where_nothing_is_regridded(samples: Path, tmp_path):
    with open_checkpoint(samples / "zstd") as checkpoint:
        run(Draft.of(checkpoint), tmp_path / "out")
    with open_checkpoint(tmp_path / "out") as result:
        assert any(e.stored.transforms for e in result.tensors.values())
    assert_same(samples / "zstd", tmp_path / "out")


def test_transforms_go_for_a_release_that_knows_none(samples: Path, tmp_path):
    with open_checkpoint(samples / "zstd") as checkpoint:
        draft = dataclasses.replace(Draft.of(checkpoint), form="2.2")
        run(draft, tmp_path / "out")
    with open_checkpoint(tmp_path / "out") as result:
        assert not any(e.stored.transforms for e in result.entries.values())
    assert_same(samples / "zstd", tmp_path / "out")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool", "float8_e4m3fn"])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (300, 2)])
def test_fills(dtype, shape, tmp_path):
    source = make(tmp_path / "s", {"w": (numbers(3), "float32", (1,))})
    with open_checkpoint(source) as checkpoint:
        draft = Draft.of(checkpoint)
        fill = TensorDraft("new", shape, dtype, Fill(1))
        run(draft.with_entries([*draft.entries.values(), fill], None), tmp_path / "out")
    with open_checkpoint(tmp_path / "out") as result:
        made = result["new"].numpy()
        assert (made.shape, made.dtype) == (shape, dtypes.numpy_dtype(dtype))
        assert (made.astype("f8") == 1).all()


def test_large_fills_are_written_in_blocks(tmp_path):
    source = make(tmp_path / "s", {"w": (numbers(3), "float32", (1,))})
    count = sink.BUFFER_BYTES // 4 * 2 + 3
    with open_checkpoint(source) as checkpoint:
        draft = Draft.of(checkpoint)
        fill = TensorDraft("new", (count,), "float32", Fill(2.5))
        run(draft.with_entries([fill], None), tmp_path / "out")
    with open_checkpoint(tmp_path / "out") as result:
        assert (result["new"].numpy() == 2.5).all()


@pytest.mark.parametrize("jobs", [1, 4])
def test_many_items_by_several_threads(jobs, tmp_path):
    tensors = {f"t{n}": (numbers(40, 3, seed=n), "float32", (1 + n % 3, 1)) for n in range(200)}
    values = {f"v{n}": {"n": n} for n in range(200)}
    source = make(tmp_path / "s", tensors, values, ranks=3)
    with open_checkpoint(source) as checkpoint:
        run(resharded(Draft.of(checkpoint), 4), tmp_path / "out", jobs=jobs, memory=512 << 20)
    assert_same(source, tmp_path / "out")
