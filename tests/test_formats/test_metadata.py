"""`.metadata` of every form, from pickles of torch's classes; hostile ones are in tests/hostile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import LimitExceeded, MalformedMetadata, MalformedPickle
from dcpctl.formats import metadata as subject
from dcpctl.formats.metadata import parse_metadata, read_metadata
from dcpctl.formats.pickles import calls
from dcpctl.formats.pickles.standins import Layout
from dcpctl.formats.records import StoredBytes, StoredTensor
from dcpctl.storage.local import LocalStorage
from tests.hostile import fake_torch as ft
from tests.hostile.draft import Draft, healthy


def parsed(draft: Draft, protocol: int = 4) -> Any:
    return parse_metadata(ft.dumps(draft.metadata(), protocol))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_entries_chunks_and_items(protocol: int) -> None:
    stored = parsed(healthy(), protocol)
    assert (stored.form.name, stored.protocol) == ("dcp", protocol)
    assert list(stored.entries) == ["model.weight", "model.bias", "step"]
    assert stored.files == ["__0_0.distcp", "__1_0.distcp"]
    weight = stored.entries["model.weight"]
    assert isinstance(weight, StoredTensor)
    assert (weight.shape, weight.dtype, weight.layout) == ((4, 3), "float32", "strided")
    assert [(c.offsets, c.sizes, c.file) for c in weight.chunks] == [
        ((0, 0), (2, 3), 0),
        ((2, 0), (2, 3), 1),
    ]
    assert weight.pickled_fields == 5
    step = stored.entries["step"]
    assert isinstance(step, StoredBytes)
    assert stored.files[step.file] == "__0_0.distcp"
    assert step.length > 0
    assert not stored.orphans


def test_other_fields_are_kept_as_they_are() -> None:
    draft = healthy()
    draft.fields = {"version": "1.0", "storage_meta": None, "mcore_data": {"a": [1]}}
    assert parsed(draft).fields == draft.fields


def test_a_pointer_of_git_lfs_is_told_as_one() -> None:
    """A checkout without LFS has these, and "unknown opcode" would tell nobody."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
    with pytest.raises(MalformedMetadata, match="pointer of Git LFS") as caught:
        parse_metadata(pointer)
    assert "git lfs pull" in str(caught.value.hint)


def test_planner_data_may_be_none() -> None:
    """1.13 writes none."""
    metadata = healthy().metadata()
    metadata.planner_data = None
    assert parse_metadata(ft.dumps(metadata)).planner_data is None


def test_planner_data_are_paths_of_names_and_indices() -> None:
    metadata = healthy().metadata()
    metadata.planner_data = {"a.0.b": ("a", 0, "b")}
    assert parse_metadata(ft.dumps(metadata)).planner_data == {"a.0.b": ("a", 0, "b")}


@pytest.mark.parametrize("value", [["rank 0", "rank 1"], ({"step": ("step",)}, 3), {"tokens": 7}])
def test_planner_data_of_a_planner_of_ones_own_are_no_paths(value: object) -> None:
    """`SavePlanner` says how to put any value there, in which torch finds no key of its own."""
    metadata = healthy().metadata()
    metadata.planner_data = value
    assert parse_metadata(ft.dumps(metadata)).planner_data is None


@pytest.mark.parametrize("odd", [{"step": "step"}, {"step": ()}, {"step": ("step",), 7: "x"}])
def test_planner_data_that_torch_takes_for_paths_are_paths(odd: dict[object, object]) -> None:
    metadata = healthy().metadata()
    metadata.planner_data = {"model.bias": ("model", "bias"), **odd}
    with pytest.raises(MalformedMetadata, match="planner data"):
        parse_metadata(ft.dumps(metadata))


def test_a_layout_is_no_text() -> None:
    """It stands for `torch.strided`, of which torch makes no path."""
    with pytest.raises(ValueError, match="not a string"):
        calls.make_path(("/", Layout("strided")))


def test_every_global_is_told() -> None:
    stored = parsed(healthy())
    assert "torch.float32" in stored.globals
    assert "torch.distributed.checkpoint.filesystem._StorageInfo" in stored.globals


@pytest.mark.parametrize("oldest", [True, False])
def test_only_a_plain_tensor_of_1_13_is_found_without_offsets(oldest: bool) -> None:
    draft = healthy()
    for index in draft.storage:
        if index.fqn == "model.bias":
            del index.offset
    data = ft.dumps(draft.metadata(), 2)
    if oldest:
        old = b"torch.distributed._shard.sharded_tensor.metadata\n"
        module = b"torch.distributed.checkpoint.metadata\n"
        data = data.replace(module + b"TensorProperties", old + b"TensorProperties")
        data = data.replace(module + b"_MEM_FORMAT", old + b"MEM_FORMAT")
        data = data.replace(b"torch.distributed.checkpoint", b"torch.distributed._shard.checkpoint")
    chunks = parse_metadata(data).entries["model.bias"].chunks
    assert chunks.file.tolist() == ([0] if oldest else [-1])


def test_items_that_nobody_claims_are_orphans() -> None:
    draft = healthy()
    del draft.entries["model.bias"]
    (orphan,) = parsed(draft).orphans
    assert (orphan.fqn, orphan.offsets) == ("model.bias", (0,))


def test_transforms_are_kept() -> None:
    draft = healthy()
    draft.item("model.bias").transform_descriptors = ["stream.zstd/1"]
    assert parsed(draft).entries["model.bias"].transforms == ("stream.zstd/1",)


def test_chunks_of_other_dimensions_than_their_sizes_are_refused() -> None:
    draft = healthy()
    draft.entries["model.bias"].chunks[0].sizes = ft.Size((3, 1))
    with pytest.raises(MalformedMetadata, match="1 offsets and 2 sizes"):
        parsed(draft)


class TestReadMetadata:
    """A large file is looked at before it is read."""

    def test_a_small_file(self, tmp_path: Path) -> None:
        healthy().write(tmp_path)
        with LocalStorage(tmp_path) as storage:
            stored = read_metadata(storage, ".metadata")
        assert stored.metadata_bytes == (tmp_path / ".metadata").stat().st_size

    @pytest.mark.parametrize("cut", [0, 1, 500])
    def test_a_large_file(self, tmp_path: Path, monkeypatch: Any, cut: int) -> None:
        monkeypatch.setattr(subject, "_LARGE_BYTES", 10)
        monkeypatch.setattr(subject, "_HEAD_BYTES", 300)
        healthy().write(tmp_path)
        path = tmp_path / ".metadata"
        path.write_bytes(path.read_bytes()[: -cut or None])
        with LocalStorage(tmp_path) as storage:
            if cut:
                with pytest.raises(MalformedPickle, match="do not end in STOP"):
                    read_metadata(storage, ".metadata")
            else:
                assert len(read_metadata(storage, ".metadata").entries) == 3

    def test_a_file_over_the_limit(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr(subject.limits, "METADATA_BYTES", 100)
        healthy().write(tmp_path)
        with LocalStorage(tmp_path) as storage, pytest.raises(LimitExceeded, match="over 100"):
            read_metadata(storage, ".metadata")
