"""Shard files: their names, and the rank that a name tells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_DISTCP = re.compile(r"(?:.*/)?__(\d{1,9})_(\d{1,9})\.distcp")
_SHOWN = 5
_SAFETENSORS = re.compile(r"(?:.*/)?shard-(\d{1,9})-model-(\d{1,9})-of-\d{1,9}\.safetensors")


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A file that holds storage items.

    Attributes:
        name: path relative to the checkpoint directory.
        rank: the rank that wrote it, as its name says; None if the name says nothing.
        n: the how-manieth file of that rank, from 0; None if the name says nothing.
        described_bytes: bytes up to the end of the last item that the metadata places in it.
        size: bytes on disk; None if there is no such file inside the checkpoint.
        items: number of storage items in it.
    """

    name: str
    rank: int | None
    n: int | None
    described_bytes: int
    size: int | None
    items: int


def rank_and_number(name: str) -> tuple[int | None, int | None]:
    """Rank and number of a shard file's name: `__3_0.distcp` is rank 3's file 0.

    DCP's safetensors shards count both from one (`shard-00001-model-00001-of-00001.safetensors`).
    """
    if match := _DISTCP.fullmatch(name):
        return int(match[1]), int(match[2])
    if match := _SAFETENSORS.fullmatch(name):
        return int(match[1]) - 1, int(match[2]) - 1
    return None, None


def ranks_among(names: Iterable[str]) -> tuple[int, ...]:
    """The ranks whose shard files are among these names, ascending."""
    ranks = {rank_and_number(name)[0] for name in names}
    return tuple(sorted(rank for rank in ranks if rank is not None))


def missing_ranks(ranks: Sequence[int]) -> tuple[int, ...]:
    """The ranks below the highest of these that are not among them."""
    return tuple(sorted({*range(max(ranks, default=0))} - {*ranks}))


def rank_words(ranks: Sequence[int]) -> str:
    """`rank 3`, `ranks 0, 2 and 3`, `ranks 0 to 7`, `ranks 0, 2, 4, 6, 8 and 27 more`.

    Args:
        ranks: ascending.
    """
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if len(ranks) > 2 and ranks[-1] - ranks[0] == len(ranks) - 1:
        return f"ranks {ranks[0]} to {ranks[-1]}"
    if len(ranks) > _SHOWN + 1:
        return f"ranks {', '.join(map(str, ranks[:_SHOWN]))} and {len(ranks) - _SHOWN:,} more"
    return f"ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"
