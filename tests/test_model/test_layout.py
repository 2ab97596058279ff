"""Layouts in words: what tilings are called, and that real checkpoints are called what they are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dcpctl.formats.records import ChunkTable
from dcpctl.model.copies import Copies, Differing
from dcpctl.model.layout import Geometry, geometry, survey
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.shard_file import ShardFile
from dcpctl.model.values import Unknown


def table(*boxes: tuple[tuple[int, ...], tuple[int, ...]], files: list[int] | None = None):
    """Chunks from (offsets, sizes); chunk i lies in file i unless `files` says otherwise."""
    dims = len(boxes[0][0]) if boxes else 0
    offsets = np.array([box[0] for box in boxes], dtype=np.int64).reshape(len(boxes), dims)
    sizes = np.array([box[1] for box in boxes], dtype=np.int64).reshape(len(boxes), dims)
    file = np.array(files if files is not None else range(len(boxes)), dtype=np.int32)
    zeros = np.zeros(len(boxes), dtype=np.int64)
    return ChunkTable(offsets, sizes, file, zeros, zeros)


def rows(*sizes: int, width: int = 4):
    """Boxes along dim 0 of a matrix."""
    start = 0
    boxes = []
    for size in sizes:
        boxes.append(((start, 0), (size, width)))
        start += size
    return boxes


GRID = [((r, c), (4, 2)) for r in (0, 4) for c in (0, 2)]


@pytest.mark.parametrize(
    ("shape", "boxes", "words"),
    [
        ((8, 4), [((0, 0), (8, 4))], "whole"),
        ((), [((), ())], "whole"),
        ((8, 4), rows(2, 2, 2, 2), "4-way, dim 0"),
        ((7, 4), rows(2, 2, 2, 1), "4-way, dim 0, uneven"),
        ((3, 4), [*rows(1, 1, 1), ((3, 0), (0, 4))], "3-way, dim 0, uneven"),
        ((8, 4), GRID, "2-d 2x2, dims 0 and 1"),
        ((8, 4), list(reversed(GRID)), "2-d 2x2, dims 0 and 1"),
        ((8, 4), [((0, 0), (8, 2)), ((0, 2), (8, 2))], "2-way, dim 1"),
        ((8, 4), GRID[:3], "irregular"),
        ((8, 4), [((0, 0), (5, 4)), ((4, 0), (4, 4))], "irregular"),
        ((8, 4), [((4, 0), (4, 4))], "irregular"),
        ((8, 4), [*GRID, GRID[0]], "irregular"),
        ((8,), rows(4, 4), "irregular"),
        ((0, 4), [((0, 0), (0, 4))], "empty"),
        ((8, 4), [], "no chunks"),
        ((4, 4, 4), [((0, a, b), (4, 2, 2)) for a in (0, 2) for b in (0, 2)],
         "2-d 2x2, dims 1 and 2"),
    ],
)  # fmt: skip
def test_geometry(shape, boxes, words: str) -> None:
    assert geometry(shape, table(*boxes)).words == words


def test_geometry_of_many_chunks_is_quick() -> None:
    boxes = [((i,), (1,)) for i in range(100_000)]
    assert geometry((100_000,), table(*boxes)).ways == (100_000,)


def entry(shape, *boxes, files=None):
    return SimpleNamespace(
        shape=shape, chunks=table(*boxes, files=files), numel=int(np.prod(shape, dtype=np.int64))
    )


def shard_files(count: int) -> list[ShardFile]:
    return [ShardFile(f"__{n}_0.distcp", n, 0, 0, 0, 0) for n in range(count)]


def test_fewer_shards_than_ranks_are_replicated_in_training() -> None:
    tensors = {
        "a": entry((8, 4), *rows(4, 4), files=[0, 3]),
        "b": entry((8, 4), *rows(4, 4), files=[1, 2]),
    }
    assert survey(tensors, shard_files(4)).words == "HSDP 2x2, dim 0"


def test_scalars_count_only_alone() -> None:
    step = entry((), ((), ()))
    weight = entry((8, 4), *rows(4, 4))
    layouts = survey({"w": weight, "step": step}, shard_files(2))
    assert layouts.words == "FSDP 2-way, dim 0"
    assert layouts.words_of(["step"]) == "whole"
    assert layouts.words_of([]) == ""


def test_splits_of_different_dims_are_tensor_parallel() -> None:
    columns = [((0, 0), (8, 2)), ((0, 2), (8, 2))]
    layouts = survey(
        {"a": entry((8, 4), *rows(4, 4)), "b": entry((8, 4), *columns)}, shard_files(2)
    )
    assert layouts.words == "tensor parallel 2-way, dims 0 and 1"


def test_stages_follow_layers() -> None:
    def whole(rank: int):
        return entry((8, 4), ((0, 0), (8, 4)), files=[rank])

    stages = {f"layers.{n}.{name}": whole(n // 2) for n in range(4) for name in ("w1", "w2")}
    assert survey(stages, shard_files(2)).words == "pipeline 2-way, whole tensors"
    mixed = {f"layers.{n // 2}.w{n}": whole(n % 2) for n in range(8)}
    assert survey(mixed, shard_files(2)).words == "whole, each saved by one of 2 ranks"
    copies = Copies(dict.fromkeys(mixed, 1))
    assert survey(mixed, shard_files(2), copies).words == "replicated, a copy on every rank"
    apart = Copies(copies.of, (Differing("layers.0.w0", 0, (1,)),))
    assert survey(mixed, shard_files(2), apart).words == "a copy on every rank, 1 of 8 different"
    unread = Copies(copies.of, unknown=(Unknown("layers.0.w0", "its file is not here"),))
    assert survey(mixed, shard_files(2), unread).words == "a copy on every rank, not compared"


def test_groups_are_by_layout() -> None:
    layouts = survey(
        {
            "a": entry((8, 4), *rows(4, 4)),
            "b": entry((8, 4), *rows(4, 4)),
            "c": entry((), ((), ())),
        },
        shard_files(2),
    )
    assert [(group.words, group.fqns) for group in layouts.groups] == [
        ("2-way, dim 0", ("a", "b")),
        ("whole", ("c",)),
    ]
    assert layouts.of["a"] is layouts.of["b"]  # one geometry, told once
    assert layouts.of["c"] == Geometry("whole")


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("fsdp2_list_fp32", "FSDP 4-way, dim 0; 1 whole"),
        ("fsdp1_sharded_bf16", "FSDP 4-way, dim 0; 1 whole"),
        ("uneven_w4", "FSDP 4-way, dim 0, uneven; 1 whole"),
        ("hsdp_2x2", "HSDP 2x2, dim 0; 1 whole"),
        ("fsdp_tp_2x2", "2-d 2x2, dims 0 and 1; 1 whole"),
        ("ddp_w4", "whole, each saved by one of 4 ranks"),
        ("pp_like_w4", "pipeline 4-way, whole tensors"),
        ("single_gsd_flat", "whole"),
        ("hf_sharded", "FSDP 4-way, dim 0"),
        ("no_collectives", "FSDP 4-way, dim 0; 1 whole"),
    ],
)
def test_real_checkpoints(shared: Path, layout: str, words: str) -> None:
    with open_checkpoint(shared / "checkpoints" / "2.13.0" / layout / "ckpt") as checkpoint:
        assert survey(checkpoint.tensors, checkpoint.files).words == words
