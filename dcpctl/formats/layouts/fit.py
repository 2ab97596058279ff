"""Two kinds of metadata in one directory: which of them describes the files that are there?

A directory that was saved into twice, once with collectives and once without, keeps the `.metadata`
of the one save beside the `__{rank}.metadata` of the other, and the later save's shard files. A
shard file ends where its last item does, so sizes tell whose the files are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from dcpctl.errors import DcpctlError
from dcpctl.formats.layouts import dcp, per_rank
from dcpctl.formats.records import StoredCheckpoint, StoredTensor
from dcpctl.storage.local import LocalStorage

#: What the answers of `fitting` mean.
ONE, PER_RANK, BOTH, NEITHER = ".metadata", "__R.metadata", "both", "neither"


def fitting(storage: LocalStorage) -> str:
    """Say which of the two kinds fits the shard files: one of the constants above.

    Args:
        storage: a directory that has both.
    """
    sizes = storage.names()
    one, each = (_fits(read, storage, sizes) for read in (dcp.read, per_rank.read))
    if one and each:
        return BOTH
    return ONE if one else PER_RANK if each else NEITHER


def _fits(
    read: Callable[[LocalStorage], StoredCheckpoint],
    storage: LocalStorage,
    sizes: Mapping[str, int],
) -> bool:
    try:
        ends = described_ends(read(storage))
    except DcpctlError:
        return False
    return all(sizes.get(name) == end for name, end in ends.items())


def described_ends(stored: StoredCheckpoint) -> dict[str, int]:
    """Return where the last item of each shard file ends, by the file's name."""
    ends = np.zeros(len(stored.files), dtype=np.int64)
    for entry in stored.entries.values():
        if isinstance(entry, StoredTensor):
            chunks = entry.chunks
            held = chunks.file >= 0
            np.maximum.at(ends, chunks.file[held], chunks.offset[held] + chunks.length[held])
        elif entry.file >= 0:
            ends[entry.file] = max(int(ends[entry.file]), _clip(entry.offset + entry.length))
    for loose in (*stored.orphans, *stored.replicas):
        if loose.file >= 0:
            ends[loose.file] = max(int(ends[loose.file]), _clip(loose.offset + loose.length))
    return dict(zip(stored.files, ends.tolist(), strict=True))


def _clip(number: int) -> int:
    """Keep what a hostile item says within 64 bits."""
    return min(max(number, 0), (1 << 63) - 1)
