"""What is fuzzed: each target takes any bytes, and may only raise `DcpctlError`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from dcpctl.errors import DcpctlError
from dcpctl.formats.archive_walk import walk_archives
from dcpctl.formats.metadata import parse_metadata
from dcpctl.formats.pickles import calls, policy, vm
from dcpctl.formats.records import StoredCheckpoint, StoredTensor
from dcpctl.formats.safetensors import read_header
from dcpctl.formats.tensor_read import read_box
from dcpctl.formats.torch_zip import open_item
from dcpctl.formats.transforms import decode_item
from dcpctl.model.values import to_json, type_name
from dcpctl.storage.buffer import BufferStorage

#: Streams of this size are decoded in blocks while fuzzing, so that small inputs reach that code.
BLOCK_BYTES = 1024


@contextmanager
def block_threshold(size: int) -> Iterator[None]:
    """Decode pickles of at least `size` bytes in blocks."""
    kept = vm._BLOCK_THRESHOLD
    vm._BLOCK_THRESHOLD = size
    try:
        yield
    finally:
        vm._BLOCK_THRESHOLD = kept


def metadata(data: bytes) -> None:
    """`.metadata`, decoded by the plain machine and in blocks."""
    found: list[StoredCheckpoint] = []
    for size in (1 << 60, BLOCK_BYTES):
        with block_threshold(size), suppress(DcpctlError):
            found.append(parse_metadata(data))
    if len(found) == 2 and not ambiguous(found[0]):
        assert same(*found), "the plain machine and the blocks disagree"


def ambiguous(stored: StoredCheckpoint) -> bool:
    """Whether two storage items have one key: then it is open which of them a chunk gets."""
    keys = [(orphan.fqn, orphan.offsets) for orphan in stored.orphans]
    for fqn, entry in stored.entries.items():
        if isinstance(entry, StoredTensor):
            keys += [(fqn, chunk.offsets) for chunk in entry.chunks]
        else:
            keys.append((fqn, None))
    return len(set(keys)) < len(keys)


def same(a: StoredCheckpoint, b: StoredCheckpoint) -> bool:
    """Whether two descriptions say the same; the order of orphans and numbers of files aside."""
    if list(a.entries) != list(b.entries) or _paths(a) != _paths(b):
        return False
    if sorted(map(str, a.files)) != sorted(map(str, b.files)):
        return False
    if (a.globals, a.protocol, list(a.fields)) != (b.globals, b.protocol, list(b.fields)):
        return False
    if sorted(_orphans(a)) != sorted(_orphans(b)):
        return False
    return all(_entry(a, fqn) == _entry(b, fqn) for fqn in a.entries)


def _paths(stored: StoredCheckpoint) -> list[Any]:
    return [
        (fqn, [part if isinstance(part, (str, int)) else type(part) for part in path])
        for fqn, path in (stored.planner_data or {}).items()
    ]


def _orphans(stored: StoredCheckpoint) -> list[str]:
    return [
        repr((o.fqn, o.offsets, stored.files[o.file], o.offset, o.length)) for o in stored.orphans
    ]


def _entry(stored: StoredCheckpoint, fqn: str) -> tuple[Any, ...]:
    entry = stored.entries[fqn]
    if not isinstance(entry, StoredTensor):
        path = stored.files[entry.file] if entry.file >= 0 else None
        return (path, entry.offset, entry.length, entry.transforms)
    chunks = [
        (*chunk[:2], stored.files[chunk.file] if chunk.file >= 0 else None, *chunk[3:])
        for chunk in entry.chunks
    ]
    head = (entry.shape, entry.dtype, entry.strides, entry.transforms, entry.requires_grad)
    return (*head, entry.chunks.offsets.shape, chunks)


def _buffer(data: bytes) -> BufferStorage:
    storage = BufferStorage("fuzz")
    storage.append(data)
    return storage


def _shown(value: Any) -> None:
    type_name(value)
    to_json(value)


def value(data: bytes) -> None:
    """The pickle of a bytes entry."""
    with suppress(DcpctlError):
        persistent = calls.storage_from_persistent_id
        _shown(vm.load(data, policy.VALUES, subject="fuzz", persistent=persistent))


def item(data: bytes) -> None:
    """A storage item: the archive, the value or tensor in it, and its checksums."""
    with suppress(DcpctlError):
        opened = open_item(_buffer(data), "", 0, len(data), subject="fuzz")
        for name in opened.records:
            opened.check_crc(name)
        with suppress(DcpctlError):
            _shown(opened.value())
        ref = opened.tensor()
        if np.prod([float(size) for size in ref.shape]) < 1e6:
            read_box(opened, ref)


def safetensors(data: bytes) -> None:
    """A safetensors file."""
    with suppress(DcpctlError):
        read_header(_buffer(data), "", subject="fuzz")


def zstd(data: bytes) -> None:
    """A compressed storage item."""
    with suppress(DcpctlError):
        options: Any = {"transforms": ["stream.zstd/1"], "subject": "fuzz", "limit": 1 << 20}
        decode_item(_buffer(data), "", 0, len(data), **options)


def walk(data: bytes) -> None:
    """A shard file without metadata: its items lie back to back from either end."""
    for compressed in (False, True):
        with suppress(DcpctlError):
            found = walk_archives(_buffer(data), "", compressed=compressed)
            hole = found.hole or (len(data), len(data))
            for places, at, end in ((found.front, 0, hole[0]), (found.back, hole[1], len(data))):
                for offset, length in places:
                    assert offset == at
                    assert length > 0
                    at += length
                assert at == end


TARGETS: dict[str, Callable[[bytes], None]] = {
    "metadata": metadata,
    "value": value,
    "item": item,
    "safetensors": safetensors,
    "zstd": zstd,
    "walk": walk,
}
