"""Entries: slices read what they need, holes and odd files are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dcpctl
from dcpctl.errors import (
    LimitExceeded,
    MalformedItem,
    MalformedMetadata,
    MissingFile,
    PathOutsideCheckpoint,
    TruncatedFile,
)
from dcpctl.formats import torch_zip
from dcpctl.model.entry import TensorEntry
from dcpctl.storage.local import LocalStorage
from tests.hostile import fake_torch as ft
from tests.hostile.draft import Draft, chunk, healthy

WEIGHT = np.array([[0, 1, 2], [3, 4, 5]] * 2, dtype=np.float32)


def entry_of(draft: Draft, directory: Path, fqn: str = "model.weight") -> TensorEntry:
    draft.write(directory)
    entry = dcpctl.open_checkpoint(directory)[fqn]
    assert isinstance(entry, TensorEntry)
    return entry


@pytest.mark.parametrize(
    "key", [0, -1, slice(1, 3), (slice(None), 1), (..., slice(None, None, 2)), (3, 2), slice(2, 2)]
)
def test_slices_are_numpys(tmp_path: Path, key: Any) -> None:
    entry = entry_of(healthy(), tmp_path)
    assert np.array_equal(entry[key], WEIGHT[key])
    assert np.array_equal(entry.numpy(), WEIGHT)


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    entry = entry_of(healthy(), tmp_path)
    assert (entry.shape, entry.dtype, entry.itemsize) == ((4, 3), "float32", 4)
    assert (entry.numel, entry.nbytes, entry.num_chunks, entry.ranks) == (12, 48, 2, (0, 1))


@pytest.mark.parametrize("most", [1, 4, 11, 12, 24, 1000])
def test_blocks_hold_every_element_once(tmp_path: Path, most: int) -> None:
    blocks = list(entry_of(healthy(), tmp_path).blocks(most))
    assert all(block.nbytes <= max(most, 4) for block in blocks)
    assert np.array_equal(np.concatenate([b.reshape(-1) for b in blocks]), WEIGHT.reshape(-1))


def test_copies_of_a_chunk_are_read_once(tmp_path: Path) -> None:
    draft = healthy()
    chunks = draft.entries["model.weight"].chunks
    chunks.append(chunks[0])
    entry = entry_of(draft, tmp_path)
    assert sum(block.size for block in entry.blocks(1000)) == 12
    assert np.array_equal(entry.numpy(), WEIGHT)


def test_overlap_does_not_hide_a_hole(tmp_path: Path) -> None:
    """What no chunk holds must not come out as whatever the memory held before."""
    draft = healthy()
    second = draft.entries["model.weight"].chunks[1]
    second.offsets = ft.Size((1, 0))
    next(
        i for i in draft.storage if i.fqn == "model.weight" and i.index == 1
    ).offset = second.offsets
    entry = entry_of(draft, tmp_path)
    with pytest.raises(MalformedItem, match="do not cover"):
        entry.numpy()
    assert entry[:3].shape == (3, 3)


def test_a_slice_reads_only_its_chunks(tmp_path: Path) -> None:
    entry = entry_of(healthy(), tmp_path)
    (tmp_path / "__1_0.distcp").unlink()
    assert np.array_equal(entry[:2], WEIGHT[:2])
    with pytest.raises(MissingFile, match="__1_0"):
        entry[2:]


def test_a_missing_file_is_told_though_the_rest_is_too_little(tmp_path: Path) -> None:
    draft = healthy()
    draft.item("model.bias").relative_path = "__7_0.distcp"
    with pytest.raises(MissingFile, match="__7_0"):
        entry_of(draft, tmp_path, "model.bias").numpy()


def test_a_path_outside_is_told(tmp_path: Path) -> None:
    draft = healthy()
    draft.item("model.bias").relative_path = "../x"
    with pytest.raises(PathOutsideCheckpoint):
        entry_of(draft, tmp_path, "model.bias").numpy()


def test_a_cut_file_is_told(tmp_path: Path) -> None:
    draft = healthy()
    del draft.files["__1_0.distcp"][5:]
    with pytest.raises(TruncatedFile):
        entry_of(draft, tmp_path).numpy()


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ((-3,), MalformedMetadata),
        ((3, 1), MalformedMetadata),
        ((1 << 62,), MalformedItem),
    ],
)
def test_shapes_that_lie(tmp_path: Path, shape: tuple[int, ...], error: type[Exception]) -> None:
    draft = healthy()
    draft.entries["model.bias"].size = ft.Size(shape)
    with pytest.raises(error):
        entry_of(draft, tmp_path, "model.bias").numpy()


def test_an_empty_tensor_too_large_for_numpy(tmp_path: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].size = ft.Size((1 << 62, 1 << 62, 0))
    draft.entries["model.bias"].chunks = []
    with pytest.raises(LimitExceeded):
        entry_of(draft, tmp_path, "model.bias").numpy()


def test_a_chunk_of_negative_size(tmp_path: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].chunks = [chunk((0,), (-3,))]
    with pytest.raises(MalformedMetadata):
        list(entry_of(draft, tmp_path, "model.bias").blocks(100))


def test_a_refused_value_is_not_decoded_again(tmp_path: Path, monkeypatch: Any) -> None:
    draft = healthy()
    draft.value("bad", b"\x80\x02\x85.")
    draft.write(tmp_path)
    entry = dcpctl.open_checkpoint(tmp_path)["bad"]
    with pytest.raises(dcpctl.DcpctlError) as first:
        _ = entry.value
    monkeypatch.setattr(torch_zip, "open_item", None)
    monkeypatch.setattr(LocalStorage, "read", None)
    with pytest.raises(dcpctl.DcpctlError) as second:
        _ = entry.value
    assert first.value is second.value
