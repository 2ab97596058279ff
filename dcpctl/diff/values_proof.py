"""What two tensors' stored checksums prove, with a look at their archives and at no number.

Chunk by chunk where the layouts agree. Where both are sliced along the first dimension, into
however many slices, the checksums of the slices give that of the whole tensor.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dcpctl.diff.values_open import ChunkOpener, OpenChunk
from dcpctl.diff.values_regions import distinct_rows, same_layout
from dcpctl.errors import DcpctlError
from dcpctl.formats.crc import combine
from dcpctl.model.entry import TensorEntry


def proven_by_crc(a: TensorEntry, b: TensorEntry, opener: ChunkOpener | None = None) -> bool | None:
    """Say what the checksums of two tensors prove; reads some KiB a chunk.

    A difference goes unseen with the odds of a CRC-32: one in four billion a chunk. Bytes that
    rotted since they were written are not seen either; `check --verify-data` sees those.

    Returns:
        True: they hold the same numbers. False: they hold different bytes (which may still be equal
        numbers: 0.0 and -0.0). None: nothing is proven, as without checksums, with other dtypes,
        with layouts that cannot be matched, or where items are compressed.

    Raises:
        As `TensorEntry.chunk_source` and `formats.chunk_read.open_chunk`.
    """
    return _prove(a, b, opener or ChunkOpener())


def same_bytes(a: TensorEntry, b: TensorEntry) -> bool:
    """Whether the two have the same chunks in the same places of the same files (hard links)."""
    if a.dtype != b.dtype or a.shape != b.shape or _form(a) != _form(b):
        return False
    pairs = same_layout(a, b)
    if pairs is None:
        return False
    rows, others = pairs
    for name in ("offset", "length"):
        if (getattr(a.chunks, name)[rows] != getattr(b.chunks, name)[others]).any():
            return False
    files = set(zip(a.chunks.file[rows].tolist(), b.chunks.file[others].tolist(), strict=True))
    return bool(files) and all(
        (one := _file_id(a, number)) is not None and one == _file_id(b, other)
        for number, other in files
    )


def _prove(a: TensorEntry, b: TensorEntry, opener: ChunkOpener) -> bool | None:
    if a.dtype != b.dtype or a.shape != b.shape:
        return None
    if not a.numel:
        return True
    if a.stored.transforms or b.stored.transforms:
        return None
    pairs = same_layout(a, b)
    if pairs is not None:
        return _chunk_by_chunk(a, b, zip(*(rows.tolist() for rows in pairs), strict=True), opener)
    sums = [_whole(entry, opener) for entry in (a, b)]
    return None if None in sums else sums[0] == sums[1]


def _chunk_by_chunk(
    a: TensorEntry, b: TensorEntry, pairs: Iterator[tuple[int, int]], opener: ChunkOpener
) -> bool | None:
    proven: bool | None = True
    for row, other in pairs:
        x, y = opener.open(a, row), opener.open(b, other)
        if not x.same_form(y) or x.crc32 is None or y.crc32 is None:
            proven = None
        elif x.crc32 != y.crc32:
            return False
    return proven


def _whole(entry: TensorEntry, opener: ChunkOpener) -> int | None:
    """The checksum of the whole tensor in row-major order; None if its chunks do not give it."""
    rows = distinct_rows(entry)
    chunks = entry.chunks
    offsets, sizes = chunks.offsets[rows], chunks.sizes[rows]
    if (
        not entry.shape
        or not len(rows)
        or offsets[:, 1:].any()
        or (sizes[:, 1:] != entry.shape[1:]).any()
    ):
        return None
    order = np.argsort(offsets[:, 0], kind="stable")
    ends = np.cumsum(sizes[order, 0])
    if ends[-1] != entry.shape[0] or (offsets[order, 0] != ends - sizes[order, 0]).any():
        return None
    total = 0
    for row in rows[order].tolist():
        chunk: OpenChunk = opener.open(entry, row)
        if not chunk.plain or chunk.crc32 is None:
            return None
        nbytes = chunk.sizes[0] * entry.nbytes // entry.shape[0]
        total = combine(total, chunk.crc32, nbytes)
    return total


def _form(entry: TensorEntry) -> tuple[str, tuple[str, ...]]:
    return entry.stored.encoding, entry.stored.transforms


def _file_id(entry: TensorEntry, number: int) -> tuple[int, int] | None:
    """Device and inode of a file that holds chunks of an entry; None if there is no such file."""
    if number < 0:
        return None
    row = int(np.flatnonzero(entry.chunks.file == number)[0])
    storage, name = entry.storage_of(row), entry.chunk_source(row).file
    try:
        storage.size(name)  # a name that leads out of the checkpoint is refused
        status = (storage.root / name).stat()
    except (DcpctlError, OSError):
        return None
    return status.st_dev, status.st_ino
