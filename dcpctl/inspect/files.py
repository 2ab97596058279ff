"""What every shard file and every rank holds, and how evenly the bytes are shared out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.shard_file import ShardFile


@dataclass(frozen=True, slots=True)
class RankShare:
    """What one rank wrote.

    Attributes:
        rank: as the file names tell; None for files whose names tell none.
        files: its shard files.
        items: storage items in them.
        nbytes: bytes on disk; where a file is not there, the bytes that the metadata describe.
        balance: its bytes relative to the mean over the ranks; 1 is even.
    """

    rank: int | None
    files: int
    items: int
    nbytes: int
    balance: float


@dataclass(frozen=True, slots=True)
class FileSurvey:
    """The shard files of a checkpoint.

    Attributes:
        files: every one of them.
        ranks: per rank, ascending.
        imbalance: bytes of the fullest rank relative to the mean; 1 is even, 0 without bytes.
    """

    files: tuple[ShardFile, ...]
    ranks: tuple[RankShare, ...]
    imbalance: float


def survey_files(checkpoint: Checkpoint) -> FileSurvey:
    """Count bytes and items per file and rank; looks at sizes only."""
    by_rank: dict[int | None, list[ShardFile]] = {}
    for file in checkpoint.files:
        by_rank.setdefault(file.rank, []).append(file)
    total = sum(map(bytes_of, checkpoint.files))
    mean = total / len(by_rank) if by_rank else 0.0
    ranks = [
        _share(rank, files, mean)
        for rank, files in sorted(by_rank.items(), key=lambda item: (item[0] is None, item[0] or 0))
    ]
    fullest = max((share.balance for share in ranks), default=0.0)
    return FileSurvey(checkpoint.files, tuple(ranks), fullest)


def bytes_of(file: ShardFile) -> int:
    """Bytes on disk; those that the metadata describe where the file is not there."""
    return file.described_bytes if file.size is None else file.size


def _share(rank: int | None, files: Sequence[ShardFile], mean: float) -> RankShare:
    nbytes = sum(map(bytes_of, files))
    items = sum(file.items for file in files)
    return RankShare(rank, len(files), items, nbytes, nbytes / mean if mean else 0.0)
