"""Resharding as a function from draft to draft: which tensor is cut how, and whose file gets it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcpctl.errors import NothingSelected, Refused, UsageError
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.draft import BytesDraft, Draft, TensorDraft
from dcpctl.model.opening import open_checkpoint
from dcpctl.surgery.layouts.layout import ReshardOptions, reshard
from dcpctl.surgery.layouts.placements import Replicate, Shard, parse_placement, read_placements

Boxes = set[tuple[tuple[int, ...], tuple[int, ...], int]]

RELEASES = ("2.0.1", "2.2.2", "2.4.1", "2.6.0", "2.9.1", "2.13.0")
#: Layouts of the same model on other ranks, and in other encodings.
SOURCES = (
    "ddp_w4",
    "fsdp1_sharded_fp32",
    "fsdp1_get_state_dict",
    "fsdp1_emulated_fp32",
    "fsdp2_flat_fp32",
    "fsdp_tp_2x2",
    "hf_consolidated",
    "hf_rank0_two_files",
    "hf_sharded",
    "hsdp_2x2",
    "model_only_flat",
    "model_only_nested",
    "no_collectives",
    "safetensors_format",
    "single_gsd_flat",
    "single_gsd_list",
    "single_raw_osd_fp32",
    "torch_save_to_dcp",
    "writer_file_per_item",
    "zstd",
)


def tensors(draft: Draft) -> dict[str, TensorDraft]:
    return {fqn: e for fqn, e in draft.entries.items() if isinstance(e, TensorDraft)}


def grid_of(entry: TensorDraft) -> Boxes:
    assert entry.grid is not None
    columns = (entry.grid.offsets, entry.grid.sizes, entry.grid.rank)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {(tuple(offsets), tuple(sizes), rank) for offsets, sizes, rank in rows}


def chunks_of(checkpoint: Checkpoint, fqn: str) -> Boxes:
    return {
        (chunk.offsets, chunk.sizes, checkpoint.files[chunk.file].rank or 0)
        for chunk in checkpoint.tensors[fqn].chunks
    }


def without_ranks(boxes: Boxes) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    return {(offsets, sizes) for offsets, sizes, _ in boxes}


def same_as_real(draft: Draft, real: Checkpoint) -> int:
    """Compare the grids of all tensors of the same name; returns how many were sharded."""
    sharded = 0
    for fqn, entry in tensors(draft).items():
        known = real.tensors.get(fqn.replace(".module.", "."))
        if known is None or known.shape != entry.shape:
            continue
        ours, theirs = grid_of(entry), chunks_of(real, known.fqn)
        assert without_ranks(ours) == without_ranks(theirs), fqn
        if len(theirs) > 1:
            assert ours == theirs, fqn
            sharded += 1
    return sharded


@pytest.mark.parametrize("release", RELEASES[1:])
@pytest.mark.parametrize("layout", SOURCES)
def test_any_layout_becomes_the_grid_of_fsdp2(shared: Path, release: str, layout: str) -> None:
    source = shared / "checkpoints" / release / layout / "ckpt"
    if not source.is_dir():
        pytest.skip("this release did not write this layout")
    with (
        open_checkpoint(source) as checkpoint,
        open_checkpoint(shared / f"checkpoints/{release}/fsdp2_list_fp32/ckpt") as real,
    ):
        draft = reshard(Draft.of(checkpoint), ReshardOptions(world_size=4))
        at_top = not any(fqn.startswith("model.") for fqn in checkpoint.entries)
        if at_top:
            draft = draft.with_entries(
                [
                    dataclasses.replace(entry, fqn=f"model.{fqn}")
                    for fqn, entry in draft.entries.items()
                ],
                None,
            )
        assert same_as_real(draft, real) >= 17


@pytest.mark.parametrize("release", RELEASES[1:])
def test_a_mesh_with_replication_is_the_grid_of_hsdp(shared: Path, release: str) -> None:
    where = shared / "checkpoints" / release
    if not (where / "hsdp_2x2").is_dir():
        pytest.skip("this release did not write this layout")
    with (
        open_checkpoint(where / "fsdp2_list_fp32" / "ckpt") as checkpoint,
        open_checkpoint(where / "hsdp_2x2" / "ckpt") as real,
    ):
        mesh = {"replicate": 2, "shard": 2}
        draft = reshard(Draft.of(checkpoint), ReshardOptions(mesh=mesh))
        for fqn, entry in tensors(draft).items():
            if fqn in real.tensors:
                assert without_ranks(grid_of(entry)) == without_ranks(chunks_of(real, fqn)), fqn


@pytest.mark.parametrize("release", ["2.2.2", "2.4.1", "2.6.0", "2.9.1", "2.13.0"])
def test_fsdp_and_tensor_parallelism_is_the_grid_of_both(shared: Path, release: str) -> None:
    """Old releases (before 2.5) are emulated without strided shards; there placements say so."""
    where = shared / "checkpoints" / release
    if not (where / "fsdp_tp_2x2").is_dir():
        pytest.skip("this release did not write this layout")
    strided = release not in ("2.2.2", "2.4.1")
    placements: dict[str, Any] = {"*tok_embeddings.weight": {"tp": "R"}}
    if not strided:
        placements["*.w[qkv13].weight"] = ["S(0)", "S(0)"]
        placements["*output.weight"] = ["S(0)", "S(0)"]
    with (
        open_checkpoint(where / "fsdp2_list_fp32" / "ckpt") as checkpoint,
        open_checkpoint(where / "fsdp_tp_2x2" / "ckpt") as real,
    ):
        options = ReshardOptions(mesh={"dp": 2, "tp": 2}, placements=placements)
        draft = reshard(Draft.of(checkpoint), options)
        compared = 0
        for fqn, entry in tensors(draft).items():
            if fqn in real.tensors:
                ours, theirs = grid_of(entry), chunks_of(real, fqn)
                assert without_ranks(ours) == without_ranks(theirs), fqn
                if len(theirs) == 4:
                    assert ours == theirs, fqn
                    compared += 1
        assert compared > 20


@pytest.mark.parametrize("layout", ["uneven_w4", "hsdp_2x2", "fsdp_tp_2x2", "fsdp1_sharded_fp32"])
def test_a_copied_layout_is_exact(shared: Path, layout: str) -> None:
    where = shared / "checkpoints" / "2.13.0"
    source = "uneven_w4" if layout == "uneven_w4" else "single_gsd_list"
    with (
        open_checkpoint(where / source / "ckpt") as checkpoint,
        open_checkpoint(where / layout / "ckpt") as real,
    ):
        draft = reshard(Draft.of(checkpoint), ReshardOptions(like=real))
        assert draft.world_size == 4
        for fqn, entry in tensors(draft).items():
            if fqn in real.tensors:
                assert grid_of(entry) == chunks_of(real, fqn)
        for fqn, value in real.bytes_entries.items():
            placed = draft.entries[fqn]
            assert isinstance(placed, BytesDraft)
            assert placed.rank == real.files[value.file].rank


def test_state_follows_its_parameter_where_the_other_has_only_a_model(samples: Path) -> None:
    with (
        open_checkpoint(samples / "healthy" / "step-8500") as checkpoint,
        open_checkpoint(samples / "model_only" / "step-8500") as model,
    ):
        draft = reshard(Draft.of(checkpoint), ReshardOptions(like=model))
        weight = "model.tok_embeddings.weight"
        state = "optimizer.state.tok_embeddings.weight.exp_avg"
        assert without_ranks(grid_of(tensors(draft)[state])) == without_ranks(
            chunks_of(model, weight)
        )


def test_the_same_layout_with_other_shapes_is_refused(shared: Path) -> None:
    where = shared / "checkpoints" / "2.13.0"
    with (
        open_checkpoint(where / "fsdp2_list_fp32" / "ckpt") as checkpoint,
        open_checkpoint(where / "uneven_w4" / "ckpt") as other,
        pytest.raises(Refused, match="other shapes"),
    ):
        reshard(Draft.of(checkpoint), ReshardOptions(like=other))


def test_every_entry_has_a_place_and_ranks_are_balanced(samples: Path) -> None:
    with open_checkpoint(samples / "healthy" / "step-8500") as checkpoint:
        draft = reshard(Draft.of(checkpoint), ReshardOptions(world_size=3))
    assert draft.world_size == 3
    assert list(draft.entries) == list(checkpoint.entries)
    load = np.zeros(3)
    for entry in draft.entries.values():
        if isinstance(entry, TensorDraft):
            assert entry.grid is not None
            volume = entry.grid.sizes.prod(axis=1)
            assert volume.sum() == entry.numel
            np.add.at(load, entry.grid.rank, volume * 4 + 1500)
        else:
            assert entry.rank is not None
            load[entry.rank] += 1500
    assert load.max() < 1.1 * load.min()


def test_buffers_and_scalars_stay_whole(samples: Path) -> None:
    with open_checkpoint(samples / "healthy" / "step-8500") as checkpoint:
        draft = reshard(Draft.of(checkpoint), ReshardOptions(world_size=4))
    for fqn, entry in tensors(draft).items():
        if fqn.endswith(("rope_inv_freq", ".step")):
            assert len(grid_of(entry)) == 1, fqn


def test_one_rank_is_one_chunk_each(samples: Path) -> None:
    with open_checkpoint(samples / "fsdp_tp_2x2") as checkpoint:
        draft = reshard(Draft.of(checkpoint), ReshardOptions(world_size=1))
    for entry in tensors(draft).values():
        assert grid_of(entry) == {((0,) * len(entry.shape), entry.shape, 0)}


def test_placements_of_a_nonzero_dimension(samples: Path) -> None:
    with open_checkpoint(samples / "healthy" / "step-8500") as checkpoint:
        options = ReshardOptions(world_size=2, placements={"*.wo.weight": "S(1)"})
        draft = reshard(Draft.of(checkpoint), options)
    for fqn, entry in tensors(draft).items():
        if ".wo.weight" in fqn and entry.shape:
            rows, columns = entry.shape
            assert without_ranks(grid_of(entry)) == {
                ((0, 0), (rows, columns // 2)),
                ((0, columns // 2), (rows, columns // 2)),
            }


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (ReshardOptions(), UsageError),
        (ReshardOptions(world_size=0), UsageError),
        (ReshardOptions(world_size=2, mesh={"a": 2}), UsageError),
        (ReshardOptions(mesh={"a": 2, "b": 0}), UsageError),
        (ReshardOptions(world_size=2, placements={"nothing.*": "R"}), NothingSelected),
        (ReshardOptions(world_size=2, placements={"*": "X(0)"}), UsageError),
        (ReshardOptions(world_size=2, placements={"*": ["R", "R"]}), UsageError),
        (ReshardOptions(world_size=2, placements={"*": {"tp": "R"}}), UsageError),
        (ReshardOptions(world_size=2, placements={"*.wq.weight": "S(2)"}), Refused),
    ],
)
def test_contradictions_are_refused(
    samples: Path, options: ReshardOptions, error: type[Exception]
) -> None:
    with (
        open_checkpoint(samples / "healthy" / "step-8500") as checkpoint,
        pytest.raises(error),
    ):
        reshard(Draft.of(checkpoint), options)


def test_a_placements_file(tmp_path: Path) -> None:
    path = tmp_path / "placements.json"
    path.write_text('{"*.wo.weight": ["S(0)", "S(1)"], "*.norm.*": ["S(0)", null]}')
    assert read_placements(path) == {"*.wo.weight": ["S(0)", "S(1)"], "*.norm.*": ["S(0)", None]}
    path.write_text("[1]")
    with pytest.raises(UsageError):
        read_placements(path)
    path.write_text("{")
    with pytest.raises(UsageError):
        read_placements(path)


@pytest.mark.parametrize(
    ("text", "placement"),
    [
        ("S(1)", Shard(1)),
        ("Shard(dim=2)", Shard(2)),
        ("R", Replicate()),
        ("Replicate()", Replicate()),
        ("_S(0, 2)", Shard(0, 2)),
        ("_StridedShard(dim=0, sf=4)", Shard(0, 4)),
        (0, Shard(0)),
        (None, Replicate()),
    ],
)
def test_placements_as_dtensor_prints_them(text: object, placement: object) -> None:
    assert parse_placement(text) == placement
