"""Keys that each rank keeps for itself: `dataloader.dp_rank_3`, `rng.0` to `rng.7`.

Told by their names (`rank` before the number) or by structure: keys of neither model nor optimizer
that differ in one number, which counts all ranks of the checkpoint from 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dcpctl.model.sections import MODEL, OPTIMIZER

_RANK = re.compile(r"(?i)(?:^|(?<=[._]))rank[_.-]?(\d+)(?=[._]|$)")
_WORD = re.compile(r"\w*")
_NUMBER = re.compile(r"(?:^|[._-])(\d{1,6})(?=[._-]|$)")
_WORLD_SIZE = re.compile(
    r"(?i)(?:.*[._])?(?:[^\W_]*world_?size|num_ranks|n_?ranks|dp_size|dp_degree)"
)


def rank_in(fqn: str) -> re.Match[str] | None:
    """The rank that a key names, as group 1: torchtitan's `dataloader.dp_rank_3`, `rng.rank3`.

    Of several in one word, as in `dp_rank_0_tp_rank_1`, the last.
    """
    found: re.Match[str] | None = None
    for match in _RANK.finditer(fqn):
        if found is not None and not _WORD.fullmatch(fqn, found.start(), match.start()):
            break
        found = match
    return found


@dataclass(frozen=True, slots=True)
class RankKeys:
    """Keys that differ in the rank alone.

    Attributes:
        pattern: their FQN with `#` for the rank.
        ranks: the ranks that have one, ascending.
    """

    pattern: str
    ranks: tuple[int, ...]

    @property
    def words(self) -> str:
        """`dataloader.dp_rank_0 to 3`, or the one key."""
        first = self.pattern.replace("#", str(self.ranks[0]), 1)
        return first if len(self.ranks) == 1 else f"{first} to {self.ranks[-1]}"

    def of(self, rank: int) -> str:
        """What a rank's key is called."""
        return self.pattern.replace("#", str(rank), 1)


def rank_keys(of: Mapping[str, str], savers: int) -> tuple[RankKeys, ...]:
    """Find the keys that ranks keep for themselves, one group for each thing that they keep.

    Keys below one rank's (`loader.rank_0.a`, `loader.rank_0.b`) are one thing.

    Args:
        of: FQN to section.
        savers: how many ranks saved the checkpoint.
    """
    named: dict[str, set[int]] = {}
    counted: dict[str, set[int]] = {}
    for fqn, section in of.items():
        if section in (MODEL, OPTIMIZER):
            continue
        match = rank_in(fqn)
        found, groups = (match, named) if match else (_NUMBER.search(fqn), counted)
        if found is not None:
            pattern = f"{fqn[: found.start(1)]}#"
            groups.setdefault(pattern, set()).add(int(found[1]))
    every = {*range(savers)}
    both = {**named, **{p: ranks for p, ranks in counted.items() if savers > 1 and ranks == every}}
    return tuple(RankKeys(pattern, tuple(sorted(ranks))) for pattern, ranks in both.items())


def world_sizes(of: Mapping[str, str]) -> Sequence[str]:
    """The keys that are called a number of ranks."""
    return [f for f, s in of.items() if s not in (MODEL, OPTIMIZER) and _WORLD_SIZE.fullmatch(f)]
