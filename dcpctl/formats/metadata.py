"""`.metadata`: from its pickle to entries and chunk tables.

The pickle is one `torch.distributed.checkpoint.metadata.Metadata` (1.13:
`torch.distributed._shard.checkpoint.metadata`) whose `state_dict_metadata` says what there is and
whose `storage_data` says where it lies; this module joins the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from dcpctl import limits
from dcpctl.errors import InputError, LimitExceeded, MalformedMetadata, MalformedPickle, quote
from dcpctl.formats.form import Form
from dcpctl.formats.pickles import policy
from dcpctl.formats.pickles.blocks import ChunkBlock
from dcpctl.formats.pickles.standins import DType, Layout, MemoryFormat, Record, Size
from dcpctl.formats.pickles.vm import Machine, check_start
from dcpctl.formats.records import (
    ChunkTable,
    Int64s,
    StoredBytes,
    StoredCheckpoint,
    StoredTensor,
)
from dcpctl.formats.storage_table import StorageTable
from dcpctl.storage.base import Storage

DCP = Form("dcp", "DCP", pickled=True, checksums=True)
#: From this size on a file's ends are looked at before it is read.
_LARGE_BYTES = 64 << 20
_HEAD_BYTES = 64 << 10
#: How a file begins that Git LFS puts in the place of one that it has not fetched.
_LFS_POINTER = b"version https://git-lfs"
_SHARDED = "torch.distributed._shard.sharded_tensor."
_OLDEST = "torch.distributed._shard.checkpoint."
_NEWER = "torch.distributed.checkpoint."
_KNOWN_FIELDS = ("state_dict_metadata", "planner_data", "storage_data")


def read_metadata(storage: Storage, name: str) -> StoredCheckpoint:
    """Read and decode a metadata file.

    A large one is refused by its first and last bytes where these are no pickle's, before the
    rest costs memory.

    Args:
        storage: the directory.
        name: the file in it.

    Raises:
        LimitExceeded: the file is larger than `limits.METADATA_BYTES`.
        As `parse_metadata` and `Storage.read`.
    """
    size = storage.size(name)
    if size > limits.METADATA_BYTES:
        raise LimitExceeded(f"{name} has {size} bytes, over {limits.METADATA_BYTES}")
    if size > _LARGE_BYTES:
        check_start(storage.read(name, 0, _HEAD_BYTES), policy.METADATA, subject=name)
        if storage.read(name, size - 1, 1) != b".":
            raise MalformedPickle(f"{name}: malformed pickle: {size} bytes that do not end in STOP")
    return parse_metadata(storage.read(name, 0, size), subject=name)


def parse_metadata(data: bytes | memoryview, *, subject: str = ".metadata") -> StoredCheckpoint:
    """Decode a `.metadata` pickle of any release from 1.13 to 2.15.

    Args:
        data: the whole file.
        subject: its name, for messages.

    Returns:
        The checkpoint that it describes; no shard file is looked at.

    Raises:
        UnsafePickle: it refers to a global that no known writer puts there.
        MalformedPickle: it is no pickle, or a damaged one.
        MalformedMetadata: it is a pickle of something else than a checkpoint's metadata, or what
            Git LFS leaves where it has not fetched a file.
    """
    if bytes(data[: len(_LFS_POINTER)]) == _LFS_POINTER:
        raise MalformedMetadata(
            f"{subject} is a pointer of Git LFS and not the file itself",
            hint="git lfs pull fetches it; actions/checkout does with lfs: true",
        )
    whole = bytes(data)
    machine = Machine(whole, policy.METADATA, subject, None)
    if machine.blocks is not None:
        try:
            return _described(machine, len(whole))
        except InputError:
            # What is not a writer's in every respect the plain machine judges from its start.
            if not machine.took_blocks and machine.foreign is None:
                raise
        machine = Machine(whole, replace(policy.METADATA, columnar=False), subject, None)
    return _described(machine, len(whole))


def _described(machine: Machine, size: int) -> StoredCheckpoint:
    """Run the machine and describe the `Metadata` that it returns."""
    subject = machine.subject
    root = machine.run()
    if not isinstance(root, Record) or root.name != "Metadata":
        raise MalformedMetadata(f"{subject} holds a {_type_name(root)}, expected torch's Metadata")
    _check_modules(machine)
    described = _dict(root, "state_dict_metadata", subject)
    oldest = any(name.startswith(_OLDEST) for name in machine.globals)
    table = StorageTable(subject, oldest=oldest)
    for key, value in _dict(root, "storage_data", subject, optional=True).items():
        table.add(key, value)
    table.finish()
    reader = _EntryReader(table, subject, size)
    stored = StoredCheckpoint(
        form=DCP,
        files=table.files,
        planner_data=_planner_data(root.fields.get("planner_data"), described, subject, size),
        fields={k: v for k, v in root.fields.items() if k not in _KNOWN_FIELDS},
        globals=frozenset(machine.globals),
        protocol=machine.protocol,
        metadata_file=subject,
        metadata_bytes=size,
    )
    for fqn, record in described.items():
        if type(fqn) is not str:
            raise MalformedMetadata(f"{subject}: a key is a {_type_name(fqn)}, expected a string")
        stored.entries[fqn] = reader.entry(fqn, record)
    stored.orphans = table.orphans(stored.entries)
    stored.duplicates = table.duplicates
    if machine.took_blocks:
        read = table.blocks + len(reader.blocks)
        if read != len(machine.blocks.blocks) or table.duplicates:
            raise MalformedMetadata(f"{subject}: a run of records where none belongs")
    return stored


def _check_modules(machine: Machine) -> None:
    """Refuse classes of DCP as 1.13 and as later releases call them in one file."""
    names = [name for name in machine.globals if name.startswith((_OLDEST, _NEWER))]
    if len({name.startswith(_OLDEST) for name in names}) > 1:
        raise MalformedMetadata(
            f"{machine.subject} names classes of torch 1.13 and of later releases: "
            f"{quote(min(names))} and {quote(max(names))}, which no release writes together"
        )


class _EntryReader:
    """Makes entries of the values of `state_dict_metadata`.

    Args:
        table: the storage items.
        subject: the file, for messages.
        size: its bytes, by which what it repeats is bounded.
    """

    def __init__(self, table: StorageTable, subject: str, size: int) -> None:
        self.table = table
        self.subject = subject
        #: Chunks that may still be told. One takes 20 bytes at least; a list of them can be put
        #: into many tensors by the memo, where each costs what its own would.
        self.room = limits.REPEATED + size // limits.CHUNK_BYTES
        self.blocks: set[int] = set()

    def entry(self, fqn: str, record: Any) -> StoredTensor | StoredBytes:
        """Describe one entry; raises MalformedMetadata if it is none."""
        subject = self.subject
        kind = record.name if isinstance(record, Record) else ""
        if kind == "BytesStorageMetadata":
            return StoredBytes(fqn, *self.table.bytes_item(fqn))
        if kind != "TensorStorageMetadata":
            raise MalformedMetadata(
                f"{subject}: {quote(fqn)} is a {_type_name(record)}, "
                "expected TensorStorageMetadata or BytesStorageMetadata"
            )
        shape = _shape(record.fields.get("size"), fqn, "size", subject)
        chunks = record.fields.get("chunks")
        self._charge(chunks, fqn)
        offsets, sizes = _boxes(chunks, fqn, subject)
        file, offset, length, transforms = self.table.chunk_items(fqn, offsets)
        return StoredTensor(
            fqn=fqn,
            shape=shape,
            chunks=ChunkTable(offsets, sizes, file, offset, length),
            transforms=transforms,
            **_properties(record.fields.get("properties"), fqn, subject),
        )

    def _charge(self, chunks: Any, fqn: str) -> None:
        if type(chunks) is not list:
            raise MalformedMetadata(f"{self.subject}: {quote(fqn)} has no list of chunks")
        self.room -= len(chunks)
        for chunk in chunks:
            if isinstance(chunk, ChunkBlock):
                self.room -= len(chunk.offsets)
                self.blocks.add(id(chunk))
        if self.room < 0:
            raise LimitExceeded(
                f"{self.subject}: more chunks, up to {quote(fqn)}, than so many bytes can hold: "
                "tensors share their chunk lists, which no release writes"
            )


def _properties(record: Any, fqn: str, subject: str) -> dict[str, Any]:
    """`TensorProperties`: a tuple of 5 fields up to 2.14 and of 6 in 2.15."""
    state = record.fields.get("__state__") if isinstance(record, Record) else None
    if _type_name(record).rpartition(".")[2] != "TensorProperties" or type(state) is not tuple:
        raise MalformedMetadata(f"{subject}: {quote(fqn)} has no TensorProperties")
    names = ("dtype", "layout", "requires_grad", "memory_format", "pin_memory", "strides")
    most = 5 if record.type.startswith(_SHARDED) else len(names)
    if not 5 <= len(state) <= most:
        raise MalformedMetadata(
            f"{subject}: {quote(fqn)} has TensorProperties of {len(state)} fields, expected 5 or 6"
        )
    found: dict[str, Any] = dict(zip(names, state, strict=False))
    dtype = found.get("dtype")
    if not isinstance(dtype, DType):
        raise MalformedMetadata(
            f"{subject}: {quote(fqn)} has dtype {quote(_type_name(dtype))}, expected a torch.dtype"
        )
    kinds = {
        "layout": Layout,
        "requires_grad": bool,
        "memory_format": MemoryFormat,
        "pin_memory": bool,
    }
    for name, kind in kinds.items():
        if type(found[name]) is not kind:
            raise MalformedMetadata(
                f"{subject}: {quote(fqn)} has {name} {quote(_type_name(found[name]))}"
            )
    strides = found.get("strides")
    if strides is not None:
        strides = _shape(strides, fqn, "strides", subject, of=tuple)
    return {
        "dtype": dtype.name,
        **{name: found[name] for name in kinds},
        "layout": str(found["layout"]),
        "memory_format": int(found["memory_format"]),
        "strides": strides,
        "pickled_fields": len(state),
    }


def _boxes(chunks: Any, fqn: str, subject: str) -> tuple[Int64s, Int64s]:
    """(n, d) offsets and sizes of a tensor's chunk list, which may hold decoded blocks."""
    offsets: list[Int64s] = []
    sizes: list[Int64s] = []
    loose: tuple[list[Any], list[Any]] = ([], [])

    def flush() -> None:
        if loose[0]:
            offsets.append(_table(loose[0], fqn, subject))
            sizes.append(_table(loose[1], fqn, subject))
            loose[0].clear()
            loose[1].clear()

    for chunk in chunks:
        if isinstance(chunk, Record) and chunk.name == "ChunkStorageMetadata":
            loose[0].append(_shape(chunk.fields.get("offsets"), fqn, "chunk offsets", subject))
            loose[1].append(_shape(chunk.fields.get("sizes"), fqn, "chunk sizes", subject))
        elif isinstance(chunk, ChunkBlock):
            flush()
            offsets.append(chunk.offsets)
            sizes.append(chunk.sizes)
        else:
            raise MalformedMetadata(
                f"{subject}: {quote(fqn)} has a {_type_name(chunk)} among its chunks"
            )
    flush()
    if not offsets:
        empty = np.zeros((0, 0), dtype=np.int64)
        return empty, empty
    joined = _joined(offsets, fqn, subject), _joined(sizes, fqn, subject)
    if joined[0].shape != joined[1].shape:
        raise MalformedMetadata(
            f"{subject}: chunks of {quote(fqn)} have {joined[0].shape[1]} offsets "
            f"and {joined[1].shape[1]} sizes"
        )
    return joined


def _joined(parts: list[Int64s], fqn: str, subject: str) -> Int64s:
    if len({part.shape[1] for part in parts}) > 1:
        raise MalformedMetadata(f"{subject}: chunks of {quote(fqn)} differ in number of dimensions")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _table(rows: Iterable[tuple[int, ...]], fqn: str, subject: str) -> Int64s:
    found = list(rows)
    if len({len(row) for row in found}) > 1:
        raise MalformedMetadata(f"{subject}: chunks of {quote(fqn)} differ in number of dimensions")
    return np.array(found, dtype=np.int64).reshape(len(found), len(found[0]))


def _shape(value: Any, fqn: str, what: str, subject: str, *, of: type = Size) -> tuple[int, ...]:
    if not isinstance(value, of) or not isinstance(value, tuple) or len(value) > limits.TENSOR_DIMS:
        raise MalformedMetadata(f"{subject}: {quote(fqn)} has no {what}")
    if not all(type(dim) is int and -(1 << 63) <= dim < 1 << 63 for dim in value):
        raise MalformedMetadata(f"{subject}: {quote(fqn)}: {what} of other than 64-bit integers")
    return tuple(value)


def _dict(root: Record, name: str, subject: str, *, optional: bool = False) -> dict[Any, Any]:
    value = root.fields.get(name)
    if value is None and optional:
        return {}
    if not isinstance(value, dict):
        raise MalformedMetadata(f"{subject}: {name} is a {_type_name(value)}, expected a dict")
    return value


def _planner_data(
    value: Any, described: dict[Any, Any], subject: str, size: int
) -> dict[str, tuple[Any, ...]] | None:
    """FQN -> object path. None in 1.13.

    A planner of one's own may put any value there (`torch.distributed.checkpoint.SavePlanner`), and
    torch looks up in it what the checkpoint has: nothing in what is no map, or one of other keys.
    """
    if not isinstance(value, dict):
        return None
    parts = sum(len(path) for path in value.values() if isinstance(path, (tuple, list)))
    if parts > limits.REPEATED + size:
        raise LimitExceeded(f"{subject}: the planner data hold {parts} names in {size} bytes")
    paths = {k: v for k, v in value.items() if type(k) is str and isinstance(v, (tuple, list))}
    if len(paths) < len(value):
        if described.keys().isdisjoint(value):
            return None
        wrong = next(key for key in value if key not in paths)
        raise MalformedMetadata(
            f"{subject}: the planner data have paths, and for "
            f"{quote(wrong if isinstance(wrong, str) else _type_name(wrong))} a "
            f"{_type_name(value[wrong])}"
        )
    for fqn, path in paths.items():
        if not path or not all(type(part) in (str, int) for part in path):
            raise MalformedMetadata(
                f"{subject}: planner data of {quote(fqn)}: a path of other than names and numbers"
            )
        # torch fills a list up to its highest index (`_traverse.set_element`).
        if any(type(part) is int and not 0 <= part < limits.REPEATED + size for part in path):
            raise MalformedMetadata(
                f"{subject}: planner data of {quote(fqn)}: a path through no list that was saved"
            )
    made = {k: tuple(v) for k, v in paths.items()}
    _check_paths(made, subject)
    return made


def _check_paths(paths: dict[str, tuple[Any, ...]], subject: str) -> None:
    """See that the paths make one tree, in which every key is a leaf of its own."""
    kinds: dict[tuple[Any, ...], type] = {}
    leaves: dict[tuple[Any, ...], str] = {}
    for fqn, path in paths.items():
        other = leaves.setdefault(path, fqn)
        if other != fqn:
            raise MalformedMetadata(
                f"{subject}: planner data of {quote(other)} and {quote(fqn)} have one path, so "
                "that one takes the other's place"
            )
        for depth, part in enumerate(path):
            if kinds.setdefault(path[:depth], type(part)) is not type(part):
                raise MalformedMetadata(
                    f"{subject}: planner data of {quote(fqn)}: a path through what is a list for "
                    "other keys and a dict for it, or the other way round"
                )
    for path, fqn in leaves.items():
        if path in kinds:
            raise MalformedMetadata(
                f"{subject}: planner data of {quote(fqn)}: other keys' paths lead through it"
            )


def _type_name(value: Any) -> str:
    if isinstance(value, Record):
        return value.type
    return "torch.Size" if isinstance(value, Size) else type(value).__name__
