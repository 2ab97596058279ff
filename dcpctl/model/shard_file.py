"""Shard files: their names, and the rank that a name tells."""

from __future__ import annotations

import re
from dataclasses import dataclass

_DISTCP = re.compile(r"(?:.*/)?__(\d{1,9})_(\d{1,9})\.distcp")
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
