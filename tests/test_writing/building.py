"""Sources, drafts and grids for the writer's tests."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dcpctl import open_checkpoint
from dcpctl.formats.crc import crc32
from dcpctl.formats.metadata import DCP
from dcpctl.formats.metadata_emit import emit_metadata
from dcpctl.formats.records import ChunkTable, StoredBytes, StoredCheckpoint, StoredTensor
from dcpctl.formats.torch_zip_emit import tensor_item, value_item
from dcpctl.model.draft import BytesDraft, Draft, Grid, TensorDraft
from dcpctl.model.source import NewValue
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.report import Report
from dcpctl.writing.write import write

Box = tuple[tuple[int, ...], tuple[int, ...]]


def hashes(path: Path) -> dict[str, str]:
    """Every file below a directory with its SHA-256."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def tiles(shape: Sequence[int], parts: Sequence[int]) -> list[Box]:
    """The boxes of a grid of `parts`, uneven as torch.chunk makes them; none is empty."""
    boxes: list[Box] = [((), ())]
    for size, count in zip(shape, parts, strict=True):
        step = max(1, -(-size // count))
        cuts = [(start, min(step, size - start)) for start in range(0, max(size, 1), step)]
        boxes = [((*o, a), (*s, n)) for o, s in boxes for a, n in cuts]
    return boxes


def grid(shape: Sequence[int], parts: Sequence[int], ranks: int) -> Grid:
    """A grid of tiles, dealt out to ranks in turn."""
    boxes = tiles(shape, parts)
    dims = len(shape)
    offsets = np.array([box[0] for box in boxes], dtype=np.int64).reshape(len(boxes), dims)
    sizes = np.array([box[1] for box in boxes], dtype=np.int64).reshape(len(boxes), dims)
    return Grid(offsets, sizes, np.arange(len(boxes), dtype=np.int64) % ranks)


def rows(shape: Sequence[int], ranks: int) -> Grid:
    """As FSDP2 shards: along the first dimension."""
    return grid(shape, [ranks, *([1] * (len(shape) - 1))][: len(shape)], ranks)


def resharded(draft: Draft, ranks: int) -> Draft:
    """Every tensor cut into rows."""
    entries = [
        dataclasses.replace(entry, grid=rows(entry.shape, ranks))
        if isinstance(entry, TensorDraft)
        else entry
        for entry in draft.entries.values()
    ]
    made = draft.with_entries(entries, draft.planner_data)
    return dataclasses.replace(made, world_size=ranks)


def edited(draft: Draft, *, drop: Sequence[str] = (), **changes: Any) -> Draft:
    """Drop keys, and set keys to values."""
    entries: dict[str, Any] = {k: e for k, e in draft.entries.items() if k not in drop}
    paths = {k: p for k, p in (draft.planner_data or {}).items() if k not in drop}
    for key, value in changes.items():
        entries[key] = BytesDraft(key, NewValue(value))
        paths.setdefault(key, (key,))
    return draft.with_entries(entries.values(), paths)


def make(
    path: Path,
    tensors: Mapping[str, tuple[np.ndarray, str, Sequence[int]]],
    values: Mapping[str, Any] | None = None,
    ranks: int = 2,
) -> Path:
    """Write a checkpoint: tensors as (numbers, torch's dtype, tiles per dimension), and values."""
    path.mkdir(parents=True)
    files = [bytearray() for _ in range(ranks)]
    stored = StoredCheckpoint(DCP, files=[f"__{rank}_0.distcp" for rank in range(ranks)])
    for fqn, value in (values or {}).items():
        data = value_item(value)
        stored.entries[fqn] = StoredBytes(fqn, 0, len(files[0]), len(data))
        files[0] += data
    for number, (fqn, (array, dtype, parts)) in enumerate(tensors.items()):
        places = []
        boxes = tiles(array.shape, parts)
        for row, (starts, sizes) in enumerate(boxes):
            rank = (number + row) % ranks
            box = tuple(slice(a, a + n) for a, n in zip(starts, sizes, strict=True))
            data = item(np.asarray(array[box]).copy(), dtype)
            places.append((rank, len(files[rank]), len(data)))
            files[rank] += data
        dims = array.ndim
        chunks = ChunkTable(
            np.array([box[0] for box in boxes], dtype=np.int64).reshape(len(boxes), dims),
            np.array([box[1] for box in boxes], dtype=np.int64).reshape(len(boxes), dims),
            np.array([place[0] for place in places], dtype=np.int32),
            np.array([place[1] for place in places], dtype=np.int64),
            np.array([place[2] for place in places], dtype=np.int64),
        )
        stored.entries[fqn] = StoredTensor(fqn, array.shape, dtype, chunks)
    stored.planner_data = {fqn: (fqn,) for fqn in stored.entries}
    for name, data in zip(stored.files, files, strict=True):
        (path / name).write_bytes(data)
    (path / ".metadata").write_bytes(emit_metadata(stored))
    return path


def item(array: np.ndarray, dtype: str) -> bytes:
    layout = tensor_item(dtype, tuple(array.shape))
    data = array.tobytes()
    return layout.prefix + data + layout.suffix(crc32(data))


def numbers(*shape: int, dtype: str = "<f4", seed: int = 0) -> np.ndarray:
    """Numbers that are all different."""
    count = math.prod(shape)
    mixed = np.random.default_rng(seed).permutation(count)
    return mixed.astype(dtype).reshape(shape)


def run(draft: Draft, destination: Path, **options: Any) -> Report:
    made = WriteOptions(**options)
    return write(plan(draft, destination, made), made)


def assert_same(source: Path, result: Path, *, keys: Sequence[str] | None = None) -> None:
    """Every tensor the same bytes, every value equal."""
    with open_checkpoint(source) as a, open_checkpoint(result) as b:
        wanted = list(a.entries) if keys is None else list(keys)
        assert set(wanted) <= set(b.entries)
        for fqn in wanted:
            left, right = a[fqn], b[fqn]
            if left.kind == "tensor":
                assert (left.shape, left.dtype) == (right.shape, right.dtype), fqn
                assert left.numpy().tobytes() == right.numpy().tobytes(), fqn
            else:
                assert left.type == right.type, fqn
                assert plain(left.value) == plain(right.value), fqn


def plain(value: Any) -> Any:
    """A value that can be compared: tensors by their bytes."""
    if hasattr(value, "array"):
        return value.dtype, value.shape, value.array.tobytes()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value if type(value).__module__ == "builtins" else repr(value)
