"""Names of the result's shard files: as they were where that can be, else the next free one."""

from __future__ import annotations

import re

_DISTCP = re.compile(r"__\d{1,9}_\d{1,9}\.distcp")


class Names:
    """Gives out the names `__{rank}_{n}.distcp`, each once.

    Args:
        taken: names that are not to be given out.
    """

    def __init__(self, taken: set[str] | None = None) -> None:
        self._taken = set(taken or ())
        self._next: dict[int, int] = {}

    def keep(self, name: str, rank: int | None) -> str:
        """Give out the last component of `name` if it is a free shard file's name, else a new one.

        Args:
            name: of the source's file.
            rank: the rank that wrote it; None counts as 0.
        """
        last = name.rpartition("/")[2]
        if _DISTCP.fullmatch(last) and last not in self._taken:
            self._taken.add(last)
            return last
        return self.new(rank or 0)

    def new(self, rank: int) -> str:
        """Give out the rank's first free name."""
        number = self._next.get(rank, 0)
        while f"__{rank}_{number}.distcp" in self._taken:
            number += 1
        self._next[rank] = number + 1
        name = f"__{rank}_{number}.distcp"
        self._taken.add(name)
        return name
