"""How the tensors of two checkpoints lie over the ranks, in sentences that a person acts on.

A tensor's layout is which rank's files hold which box of it. Which rank saved a tensor that every
rank has whole is torch's balancing of bytes, and no layout; where stages of a pipeline hold whole
tensors it is one. The work is per distinct geometry, and per chunk only inside NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcpctl.diff.subject import Subject
from dcpctl.formats.records import ChunkTable
from dcpctl.model.layout import SHARDED, WHOLE, Geometry

Int64s = NDArray[np.int64]

#: How a tensor's layout in B relates to that in A.
SAME, MOVED, CUT = "same", "on other ranks", "cut otherwise"


@dataclass(frozen=True, slots=True)
class RankLoad:
    """How the bytes of a checkpoint are shared out.

    Attributes:
        ranks: ranks that wrote a file.
        files: shard files.
        imbalance: bytes of the fullest rank relative to the mean; 1 is even, 0 without ranks.
    """

    ranks: int
    files: int
    imbalance: float


@dataclass(frozen=True, slots=True)
class LayoutGroup:
    """Tensors whose layout is the same in A, and the same in B.

    Attributes:
        a: the layout in A, in words.
        b: the layout in B, in words.
        how: `same`, `on other ranks` (equal boxes) or `cut otherwise`.
        pairs: keys in A and in B.
    """

    a: str
    b: str
    how: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class LayoutDifference:
    """The layouts of the tensors that both have.

    Attributes:
        a: A's layout as a whole, in words; empty without tensors.
        b: B's.
        load_a: how A's bytes are shared out over ranks.
        load_b: how B's are.
        groups: the tensors by layout, those that differ first; tensors of one element, which are
            always whole, only where they differ.
        changed: tensors that lie otherwise.
    """

    a: str
    b: str
    load_a: RankLoad
    load_b: RankLoad
    groups: tuple[LayoutGroup, ...]
    changed: int


def compare_layouts(a: Subject, b: Subject, pairs: Iterable[tuple[str, str]]) -> LayoutDifference:
    """Compare how tensors lie.

    Args:
        a: one.
        b: the other.
        pairs: keys in A and in B of tensors of one shape.
    """
    tensors = list(pairs)
    words_a = _Words(a, [one for one, _ in tensors])
    words_b = _Words(b, [other for _, other in tensors])
    ranks_a, ranks_b = _ranks(a), _ranks(b)
    staged = any("pipeline" in side.layouts.words for side in (a, b))
    found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    changed = 0
    for one, other in tensors:
        left, right = a.tensors[one], b.tensors[other]
        how = _relation(left.chunks, ranks_a, right.chunks, ranks_b)
        if how == MOVED and not staged and a.layouts.of[one].kind != SHARDED:
            how = SAME
        changed += how != SAME
        if how != SAME or left.numel > 1:
            found.setdefault((words_a.of(one), words_b.of(other), how), []).append((one, other))
    groups = [LayoutGroup(*key, tuple(members)) for key, members in found.items()]
    groups.sort(key=lambda group: (group.how == SAME, group.how == MOVED, -len(group.pairs)))
    return LayoutDifference(
        a.layouts.words, b.layouts.words, _load(a), _load(b), tuple(groups), changed
    )


def _relation(a: ChunkTable, ranks_a: Int64s, b: ChunkTable, ranks_b: Int64s) -> str:
    """How two tables of chunks of one tensor differ, whatever the order of their rows."""
    same_boxes = np.array_equal(a.offsets, b.offsets) and np.array_equal(a.sizes, b.sizes)
    owner_a, owner_b = ranks_a[a.file], ranks_b[b.file]
    if same_boxes:
        return SAME if np.array_equal(owner_a, owner_b) else MOVED
    if a.offsets.shape != b.offsets.shape:
        return CUT
    order_a, order_b = _sorted(a), _sorted(b)
    if not (
        np.array_equal(a.offsets[order_a], b.offsets[order_b])
        and np.array_equal(a.sizes[order_a], b.sizes[order_b])
    ):
        return CUT
    return SAME if np.array_equal(owner_a[order_a], owner_b[order_b]) else MOVED


def _sorted(chunks: ChunkTable) -> Int64s:
    keys = np.concatenate([chunks.sizes, chunks.offsets], axis=1)
    return np.lexsort(keys.T) if keys.shape[1] else np.arange(len(keys))


def _ranks(subject: Subject) -> Int64s:
    """The rank of every file, -1 where its name tells none; the last is that of no file."""
    ranks = [-1 if f.rank is None else f.rank for f in subject.checkpoint.files]
    return np.array([*ranks, -2], dtype=np.int64)


def _load(subject: Subject) -> RankLoad:
    held: dict[int, int] = {}
    for file in subject.checkpoint.files:
        nbytes = file.described_bytes if file.size is None else file.size
        rank = -1 if file.rank is None else file.rank
        held[rank] = held.get(rank, 0) + nbytes
    total = sum(held.values())
    imbalance = max(held.values()) * len(held) / total if total else 0.0
    return RankLoad(len(held.keys() - {-1}), len(subject.checkpoint.files), imbalance)


class _Words:
    """Layouts of one side's tensors in words that group what was sharded alike.

    A dimension of 3 over 8 ranks has 3 chunks and is sharded as one of 4096 is.
    """

    def __init__(self, subject: Subject, fqns: Sequence[str]) -> None:
        self.tensors = subject.tensors
        self.of_all = subject.layouts.of
        self.known: dict[tuple[Geometry, tuple[int, ...]], str] = {}
        self.most: dict[tuple[int, ...], tuple[int, ...]] = {}
        for shape in {self.of_all[fqn] for fqn in fqns}:
            if shape.kind == SHARDED:
                ways = tuple(shape.ways[dim] for dim in shape.dims)
                held = self.most.setdefault(shape.dims, ways)
                if math.prod(ways) > math.prod(held):
                    self.most[shape.dims] = ways

    def of(self, fqn: str) -> str:
        """The layout of one tensor."""
        key = (self.of_all[fqn], self.tensors[fqn].shape)
        if key not in self.known:
            self.known[key] = self._words(*key)
        return self.known[key]

    def _words(self, geometry: Geometry, shape: tuple[int, ...]) -> str:
        if geometry.kind != SHARDED:
            return geometry.words if geometry.kind != WHOLE else "whole"
        dims = geometry.dims
        ways = tuple(geometry.ways[dim] for dim in dims)
        most = self.most[dims]
        sizes = [shape[dim] for dim in dims]
        if all(_chunks(size, n) == w for size, n, w in zip(sizes, most, ways, strict=True)):
            ways = most
        if len(dims) == 1:
            return f"dim {dims[0]} over {ways[0]} ranks"
        return f"{len(dims)}-d {'x'.join(map(str, ways))}, dims {_listed(dims)}"


def _chunks(size: int, ranks: int) -> int:
    """Chunks that are not empty where torch.chunk cuts a dimension for so many ranks."""
    return math.ceil(size / math.ceil(size / ranks))


def _listed(dims: Sequence[int]) -> str:
    return f"{', '.join(map(str, dims[:-1]))} and {dims[-1]}"
