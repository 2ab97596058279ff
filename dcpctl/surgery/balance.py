"""Which rank's file gets what several ranks could write: the least loaded one, as DCP does it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dcpctl.formats.records import Int64s

#: Bytes that a storage item costs besides its numbers: the archive around them.
ITEM_BYTES = 1500


class Loads:
    """Bytes that each rank's file is to hold so far.

    Args:
        world_size: number of ranks.
    """

    def __init__(self, world_size: int) -> None:
        self.bytes = np.zeros(world_size, dtype=np.int64)
        self._all = np.arange(world_size)

    def add(self, rank: int, nbytes: int) -> None:
        """Count an item of `nbytes` bytes of data that only one rank can write."""
        self.bytes[rank] += nbytes + ITEM_BYTES

    def give(self, nbytes: int, holders: Int64s | None = None) -> int:
        """Give an item to the least loaded of the ranks that hold it (the lowest of several).

        Args:
            nbytes: bytes of its data.
            holders: the ranks; None for all.
        """
        among = self._all if holders is None else holders
        rank = int(among[np.argmin(self.bytes[among])])
        self.add(rank, nbytes)
        return rank

    def spread(self, items: Iterable[tuple[int, Int64s | None]]) -> list[int]:
        """Give several items, in order."""
        return [self.give(nbytes, holders) for nbytes, holders in items]
