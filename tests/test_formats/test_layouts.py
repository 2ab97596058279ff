"""The on-disk forms; what real ones read back to is in tests/test_model/test_checkpoint.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import MalformedMetadata
from dcpctl.formats.layouts import dcp, find_reader, per_rank, safetensors_files
from dcpctl.formats.records import StoredCheckpoint, StoredTensor
from dcpctl.storage.local import LocalStorage
from tests.hostile import fake_torch as ft
from tests.hostile.draft import healthy
from tests.hostile.safetensors_cases import blob


def read(module: Any, directory: Path) -> StoredCheckpoint:
    with LocalStorage(directory) as storage:
        stored: StoredCheckpoint = module.read(storage)
    return stored


@pytest.mark.parametrize(
    ("names", "module"),
    [
        ([".metadata", "__0_0.distcp", "__0.metadata"], dcp),
        (["__0.metadata", "__0_0.distcp"], per_rank),
        (["model.safetensors"], safetensors_files),
        (["__0_0.distcp", ".metadata.tmp"], None),
        ([], None),
    ],
)
def test_forms_are_told_by_names(names: list[str], module: Any) -> None:
    assert find_reader(dict.fromkeys(names, 0)) is module


def ranks(directory: Path) -> None:
    """Two ranks that each describe half of the weight and a whole bias."""
    for rank in range(2):
        draft = healthy()
        weight = draft.entries["model.weight"]
        weight.chunks = [weight.chunks[rank]]
        draft.storage = {
            index: info
            for index, info in draft.storage.items()
            if index.fqn != "model.weight" or index.index == rank
        }
        data = ft.dumps(draft.metadata())
        draft.write(directory, metadata=data)
        (directory / ".metadata").rename(directory / f"__{rank}.metadata")


def test_ranks_are_joined(tmp_path: Path) -> None:
    ranks(tmp_path)
    stored = read(per_rank, tmp_path)
    weight = stored.entries["model.weight"]
    assert isinstance(weight, StoredTensor)
    assert weight.chunks.offsets.tolist() == [[0, 0], [2, 0]]
    assert [stored.files[n] for n in weight.chunks.file] == ["__0_0.distcp", "__1_0.distcp"]
    assert len(stored.entries["model.bias"].chunks) == 1
    assert sorted(copy.fqn for copy in stored.replicas) == ["model.bias", "step"]


def spoil_rank_1(directory: Path, change: Any) -> None:
    ranks(directory)
    draft = healthy()
    change(draft)
    (directory / "__1.metadata").write_bytes(ft.dumps(draft.metadata()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: setattr(d.entries["model.bias"], "size", ft.Size((4,))), "on other ranks"),
        (lambda d: d.entries.update({"step": d.entries["model.bias"]}), "on some ranks only"),
        (
            lambda d: (
                d.entries["model.bias"]
                .chunks[0]
                .__dict__.update(offsets=ft.Size((0, 0)), sizes=ft.Size((3, 1)))
            ),
            "dimensions on one rank",
        ),
    ],
)
def test_ranks_that_disagree_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    spoil_rank_1(tmp_path, change)
    with pytest.raises(MalformedMetadata, match=message):
        read(per_rank, tmp_path)


def shard(offset: int, count: int = 2) -> bytes:
    sharding = json.dumps({"w": {"saved_offsets": [offset]}})
    header = {
        "__metadata__": {"DCP_SHARDING_INFO": sharding, "DCP_VERSION": "1.0"},
        "w": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]},
    }
    return blob(header, bytes(4 * count))


def test_safetensors_shards_reach_to_the_end_of_the_tensor(tmp_path: Path) -> None:
    for rank in range(3):
        name = f"shard-0000{rank + 1}-model-00001-of-00001.safetensors"
        (tmp_path / name).write_bytes(shard(2 * rank))
    stored = read(safetensors_files, tmp_path)
    assert stored.form.name == "safetensors-sharded"
    tensor = stored.entries["w"]
    assert isinstance(tensor, StoredTensor)
    assert (tensor.shape, tensor.encoding) == ((6,), "raw")
    assert stored.fields["DCP_VERSION"] == "1.0"


def test_a_shard_beyond_all_integers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(shard((1 << 63) - 2))
    with pytest.raises(MalformedMetadata, match="beyond 2\\^63"):
        read(safetensors_files, tmp_path)


def test_whole_tensors_in_two_files_are_refused(tmp_path: Path) -> None:
    data = blob({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(data)
    with pytest.raises(MalformedMetadata, match="none says it is a shard"):
        read(safetensors_files, tmp_path)


def test_an_index_must_be_right(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(
        blob({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
    )
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "m.safetensors"}}))
    assert read(safetensors_files, tmp_path).metadata_file == index.name
    index.write_text(json.dumps({"weight_map": {"w": "n.safetensors"}}))
    with pytest.raises(MalformedMetadata, match=r"'n\.safetensors', which lacks it"):
        read(safetensors_files, tmp_path)
