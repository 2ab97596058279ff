"""How tensors lie over the ranks, in the words of those who sharded them.

The work is per distinct geometry, not per tensor, and per chunk only inside NumPy: the tensors of
a model on 1,024 ranks have a million chunks and some twenty geometries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dcpctl.formats.arrays import distinct
from dcpctl.formats.records import ChunkTable, Int64s
from dcpctl.model.stages import Stages, find_stages

if TYPE_CHECKING:
    from dcpctl.model.copies import Copies
    from dcpctl.model.entry import TensorEntry
    from dcpctl.model.shard_file import ShardFile

WHOLE, SHARDED, IRREGULAR, EMPTY, NONE = "whole", "sharded", "irregular", "empty", "none"


@dataclass(frozen=True, slots=True)
class Geometry:
    """How the chunks of a tensor tile it.

    Attributes:
        kind: `whole` (one chunk), `sharded` (a regular grid of chunks), `irregular` (they overlap,
            leave holes or form no grid), `empty` (no elements) or `none` (no chunks).
        ways: chunks along each dimension; empty chunks do not count.
        even: all chunks have one size, and none is empty.
    """

    kind: str
    ways: tuple[int, ...] = ()
    even: bool = True

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions that are split."""
        return tuple(dim for dim, ways in enumerate(self.ways) if ways > 1)

    @property
    def words(self) -> str:
        """`whole`, `4-way, dim 0`, `2-d 2x2, dims 0 and 1`, with `uneven` where it is."""
        if self.kind == SHARDED:
            return _split_words("", self.ways, self.dims) + ("" if self.even else ", uneven")
        return "no chunks" if self.kind == NONE else self.kind


def geometry(shape: Sequence[int], chunks: ChunkTable) -> Geometry:
    """Tell how chunks tile a tensor of `shape`; vectorised over the chunks."""
    if not len(chunks):
        return Geometry(NONE)
    if 0 in shape:
        return Geometry(EMPTY)
    if chunks.offsets.shape[1] != len(shape):
        return Geometry(IRREGULAR)
    filled = (chunks.sizes > 0).all(axis=1)
    offsets, sizes = chunks.offsets[filled], chunks.sizes[filled]
    if len(offsets) == 1:
        whole = not offsets.any() and tuple(sizes[0].tolist()) == tuple(shape)
        return Geometry(WHOLE if whole else IRREGULAR)
    ways = _grid(shape, offsets, sizes)
    if ways is None:
        return Geometry(IRREGULAR)
    return Geometry(SHARDED, ways, bool(filled.all() and (sizes == sizes[0]).all()))


def _grid(shape: Sequence[int], offsets: Int64s, sizes: Int64s) -> tuple[int, ...] | None:
    """Chunks along each dimension if they are the cells of a full grid, else None."""
    cell = np.zeros(len(offsets), dtype=np.int64)
    ways = []
    for dim, size in enumerate(shape):
        starts, place = np.unique(offsets[:, dim], return_inverse=True)
        ends = np.append(starts[1:], size)
        if starts.size == 0 or starts[0] != 0 or (sizes[:, dim] != (ends - starts)[place]).any():
            return None
        ways.append(len(starts))
        cell = cell * len(starts) + place
    cells = 1
    for count in ways:
        cells *= count
    return tuple(ways) if len(offsets) == cells == len(distinct(cell)) else None


@dataclass(frozen=True, slots=True)
class LayoutGroup:
    """The tensors of one layout.

    Attributes:
        words: the layout.
        fqns: the tensors, in metadata order.
    """

    words: str
    fqns: tuple[str, ...]


class Layouts:
    """The layouts of a checkpoint's tensors; made by `survey`.

    Attributes:
        of: FQN to geometry.
        ranks: ranks whose files hold chunks of sharded tensors.
    """

    def __init__(
        self,
        of: Mapping[str, Geometry],
        scalars: frozenset[str],
        ranks: int,
        holders: Mapping[str, int],
        copies: Copies | None,
        savers: int,
    ) -> None:
        self.of = of
        self.ranks = ranks
        self._scalars = scalars
        self._holders = holders
        self._copies = copies
        self._savers = savers

    @cached_property
    def words(self) -> str:
        """The layout of the whole checkpoint; empty without tensors."""
        return self.words_of(self.of)

    @cached_property
    def groups(self) -> tuple[LayoutGroup, ...]:
        """The tensors by layout, that of most tensors first."""
        found: dict[str, list[str]] = {}
        for fqn, shape in self.of.items():
            found.setdefault(shape.words, []).append(fqn)
        ordered = sorted(found.items(), key=lambda item: -len(item[1]))
        return tuple(LayoutGroup(words, tuple(fqns)) for words, fqns in ordered)

    def words_of(self, fqns: Iterable[str]) -> str:
        """Say in words how some tensors lie: `FSDP 4-way, dim 0, uneven; 3 whole`.

        Tensors of one element are always whole and count only where there are no others.
        """
        all_of_them = list(fqns)
        chosen = [fqn for fqn in all_of_them if fqn not in self._scalars] or all_of_them
        if not chosen:
            return ""
        kinds: dict[str, list[str]] = {}
        for fqn in chosen:
            kinds.setdefault(self.of[fqn].kind, []).append(fqn)
        clauses = []
        if SHARDED in kinds:
            clauses.append(self._sharded(kinds[SHARDED]))
        if WHOLE in kinds:
            whole = kinds[WHOLE]
            clauses.append(f"{len(whole)} whole" if SHARDED in kinds else self._whole(whole))
        clauses += [
            f"{len(kinds[kind])} {words}"
            for kind, words in (
                (IRREGULAR, "irregular"),
                (EMPTY, "empty"),
                (NONE, "without chunks"),
            )
            if kind in kinds
        ]
        return "; ".join(clauses)

    def _sharded(self, fqns: Sequence[str]) -> str:
        shapes = {self.of[fqn] for fqn in fqns}
        most = max(shapes, key=lambda shape: (len(shape.dims), np.prod(shape.ways)))
        uneven = "" if all(shape.even for shape in shapes) else ", uneven"
        if len(most.dims) > 1:
            return _split_words("", most.ways, most.dims) + uneven
        ways = max(most.ways)
        dims = sorted({dim for shape in shapes for dim in shape.dims})
        if dims != [0]:
            name = "tensor parallel " if len(dims) > 1 else "sharded "
            return f"{name}{ways}-way, {_dims(dims)}{uneven}"
        # Fewer shards than ranks that hold some: each shard has copies, of which one was saved.
        if self.ranks > ways and self.ranks % ways == 0:
            return f"HSDP {self.ranks // ways}x{ways}, dim 0{uneven}"
        return f"FSDP {ways}-way, dim 0{uneven}"

    def _whole(self, fqns: Sequence[str]) -> str:
        if self._copies is not None and all(fqn in self._copies.of for fqn in fqns):
            return self._copied(self._copies, fqns)
        holders = {self._holders[fqn] for fqn in fqns}
        if len(holders) <= 1:
            return "whole"
        if self.stages is not None:
            return f"{self.stages.words}, whole tensors"
        # Whether the other ranks have a copy the checkpoint does not say.
        return f"whole, each saved by one of {len(holders)} ranks"

    def _copied(self, copies: Copies, fqns: Sequence[str]) -> str:
        """What ranks saved copies of, each for itself; replicated is what is equal on all."""
        everywhere = all(copies.of[fqn] + 1 >= self._savers for fqn in fqns)
        where = "a copy on every rank" if everywhere else "copies on several ranks"
        differing = {one.fqn for one in copies.differing}
        apart = sum(fqn in differing for fqn in fqns)
        if apart:
            return (
                f"{where}, {apart} of {len(fqns)} different"
                if len(fqns) > 1
                else (f"{where}, which differ")
            )
        if not all(fqn in copies.equal for fqn in fqns):
            return f"{where}, not compared"
        return f"replicated, {where}"

    @cached_property
    def stages(self) -> Stages | None:
        """The pipeline stages that the whole tensors show; None if they show none."""
        return find_stages(self._holders)


def survey(
    tensors: Mapping[str, TensorEntry],
    files: Sequence[ShardFile],
    copies: Copies | None = None,
) -> Layouts:
    """Tell the layout of every tensor.

    Args:
        tensors: FQN to tensor entry.
        files: the shard files that the chunk tables number.
        copies: what the further copies that other ranks saved of them come to.
    """
    known: dict[tuple[object, ...], Geometry] = {}
    of: dict[str, Geometry] = {}
    holders: dict[str, int] = {}
    held = np.zeros(len(files) + 1, dtype=bool)  # the last one stands for "no file"
    for fqn, entry in tensors.items():
        chunks = entry.chunks
        key = (entry.shape, chunks.offsets.tobytes(), chunks.sizes.tobytes())
        shape = known.get(key)
        if shape is None:
            shape = known[key] = geometry(entry.shape, chunks)
        of[fqn] = shape
        if shape.kind == SHARDED:
            held[chunks.file] = True
        elif shape.kind == WHOLE:
            holders[fqn] = _rank(files, int(chunks.file[0]))
    ranks = {files[number].rank for number in np.flatnonzero(held[:-1]).tolist()} - {None}
    scalars = frozenset(fqn for fqn, entry in tensors.items() if entry.numel <= 1)
    savers = len({file.rank for file in files} - {None})
    return Layouts(of, scalars, len(ranks), holders, copies, savers)


def _rank(files: Sequence[ShardFile], number: int) -> int:
    rank = files[number].rank if 0 <= number < len(files) else None
    return -1 if rank is None else rank


def _split_words(name: str, ways: Sequence[int], dims: Sequence[int]) -> str:
    counts = [str(ways[dim]) for dim in dims]
    if len(dims) == 1:
        return f"{name}{counts[0]}-way, {_dims(dims)}"
    return f"{name}{len(dims)}-d {'x'.join(counts)}, {_dims(dims)}"


def _dims(dims: Sequence[int]) -> str:
    if len(dims) == 1:
        return f"dim {dims[0]}"
    return f"dims {', '.join(map(str, dims[:-1]))} and {dims[-1]}"
