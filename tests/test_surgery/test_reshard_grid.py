"""The boxes of placements: against torch's own arithmetic, and against what torch really wrote."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpctl.errors import Refused
from dcpctl.model.opening import open_checkpoint
from dcpctl.surgery.layouts.grid import Boxes, cut
from dcpctl.surgery.layouts.placements import Mesh, Placements, Replicate, Shard, parse_placement

Listed = list[tuple[tuple[int, ...], tuple[int, ...]]]


def listed(boxes: Boxes) -> Listed:
    return [
        (tuple(offsets), tuple(sizes))
        for offsets, sizes in zip(boxes.offsets.tolist(), boxes.sizes.tolist(), strict=True)
    ]


def tiles(shape: tuple[int, ...], boxes: Listed) -> bool:
    held = np.zeros(shape, dtype=int)
    for offsets, sizes in boxes:
        held[tuple(slice(o, o + s) for o, s in zip(offsets, sizes, strict=True))] += 1
    return bool((held == 1).all())


def test_torch_chunk_semantics() -> None:
    boxes = cut((10, 7), {"fsdp": 4}, (Shard(0),))
    assert listed(boxes) == [
        ((0, 0), (3, 7)),
        ((3, 0), (3, 7)),
        ((6, 0), (3, 7)),
        ((9, 0), (1, 7)),
    ]
    assert [held.tolist() for held in boxes.holders] == [[0], [1], [2], [3]]


def test_empty_pieces_are_one_box_at_the_end() -> None:
    boxes = cut((2, 9), {"fsdp": 4}, (Shard(0),))
    assert listed(boxes) == [((0, 0), (1, 9)), ((1, 0), (1, 9)), ((2, 0), (0, 9))]
    assert boxes.holders[2].tolist() == [2, 3]


def test_a_scalar_is_one_box_that_all_hold() -> None:
    boxes = cut((), {"fsdp": 4}, (Replicate(),))
    assert listed(boxes) == [((), ())]
    assert boxes.holders[0].tolist() == [0, 1, 2, 3]


def test_fsdp_after_tensor_parallelism_interleaves() -> None:
    boxes = cut((32, 8), {"fsdp": 2, "tp": 2}, (Shard(0, 2), Shard(0)))
    assert [offsets[0] for offsets, _ in listed(boxes)] == [0, 16, 8, 24]


@pytest.mark.parametrize("placements", [(Shard(2), Replicate()), (Shard(0, 3), Shard(0))])
def test_placements_that_do_not_fit_are_refused(placements: Placements) -> None:
    with pytest.raises(Refused):
        cut((4, 4), {"a": 2, "b": 2}, placements)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, ...], Mesh, Placements]:
    shape = tuple(draw(st.lists(st.integers(0, 13), min_size=1, max_size=3)))
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    choices = st.one_of(st.just(Replicate()), st.builds(Shard, st.integers(0, len(shape) - 1)))
    placements = [draw(choices) for _ in sizes]
    first = placements[0]
    if isinstance(first, Shard) and draw(st.booleans()):
        factor = math.prod(
            size
            for size, placement in zip(sizes[1:], placements[1:], strict=True)
            if isinstance(placement, Shard) and placement.dim == first.dim
        )
        placements[0] = Shard(first.dim, factor)
    return shape, {f"axis{n}": size for n, size in enumerate(sizes)}, tuple(placements)


def by_torch(shape: tuple[int, ...], mesh: Mesh, placements: Placements) -> Listed:
    """Every rank's box as `torch.distributed.tensor` has it."""
    from torch.distributed.tensor import Replicate as TorchReplicate
    from torch.distributed.tensor import Shard as TorchShard
    from torch.distributed.tensor._utils import _compute_local_shape_and_global_offset
    from torch.distributed.tensor.placement_types import _StridedShard

    theirs = [
        TorchReplicate()
        if isinstance(p, Replicate)
        else _StridedShard(p.dim, split_factor=p.split_factor)
        if p.split_factor > 1
        else TorchShard(p.dim)
        for p in placements
    ]
    axes = list(mesh.values())
    found: Listed = []
    for rank in range(math.prod(axes)):
        coordinate = [int(c) for c in np.unravel_index(rank, axes)]
        sizes, offsets = _compute_local_shape_and_global_offset(shape, axes, coordinate, theirs)
        found.append((tuple(map(int, offsets)), tuple(map(int, sizes))))
    return found


@settings(max_examples=400, deadline=None)
@given(layouts())
def test_every_box_is_torchs(
    torch: ModuleType, layout: tuple[tuple[int, ...], Mesh, Placements]
) -> None:
    shape, mesh, placements = layout
    boxes = cut(shape, mesh, placements)
    ours = listed(boxes)
    assert tiles(shape, ours)
    theirs = by_torch(shape, mesh, placements)
    different = list(dict.fromkeys(theirs))
    strided = any(isinstance(p, Shard) and p.split_factor > 1 for p in placements)
    if not strided:
        assert ours == different
        for box, held in zip(ours, boxes.holders, strict=True):
            assert held.tolist() == [rank for rank, found in enumerate(theirs) if found == box]
    elif not any(size % math.prod(mesh.values()) for size in shape):
        assert set(ours) == set(different)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 40), st.integers(1, 5), st.integers(1, 5))
def test_strided_shards_are_what_fsdp_holds_after_tp(
    torch: ModuleType, rows: int, fsdp: int, tp: int
) -> None:
    """Whatever torch's description says: TP chunks first, then FSDP chunks what is left."""
    boxes = cut((rows,), {"fsdp": fsdp, "tp": tp}, (Shard(0, tp), Shard(0)))
    elements = torch.arange(rows)
    for rank in range(fsdp * tp):
        d, t = divmod(rank, tp)
        held = elements
        for index, count in ((t, tp), (d, fsdp)):
            parts = held.chunk(count) if len(held) else ()
            held = parts[index] if index < len(parts) else held[:0]
        row = next(n for n, ranks in enumerate(boxes.holders) if rank in ranks)
        low, size = int(boxes.offsets[row, 0]), int(boxes.sizes[row, 0])
        assert list(range(low, low + size)) == held.tolist()


RELEASES = ("2.2.2", "2.4.1", "2.6.0", "2.9.1", "2.13.0")


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("layout", ["dtensor_zoo", "fsdp_tp_2x2", "hsdp_2x2", "uneven_w4"])
def test_boxes_are_those_of_real_checkpoints(shared: Path, release: str, layout: str) -> None:
    where = shared / "checkpoints" / release / layout
    if not where.is_dir():
        pytest.skip("this release did not write this layout")
    truth = json.loads((where / "expected.json").read_text())["entries"]
    compared = 0
    with open_checkpoint(where / "ckpt") as checkpoint:
        for fqn, entry in checkpoint.tensors.items():
            known = truth[fqn]
            if "placements" not in known:
                continue
            mesh = {f"axis{n}": size for n, size in enumerate(known["mesh_shape"])}
            placements = tuple(parse_placement(text) for text in known["placements"])
            real = [(chunk.offsets, chunk.sizes) for chunk in entry.chunks]
            ours = listed(cut(entry.shape, mesh, placements))
            assert set(ours) == set(real), fqn
            compared += 1
    assert compared > 20
