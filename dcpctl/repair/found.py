"""One storage item as it lies in a file: what it holds, and whether its checksums are right."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from dcpctl import limits
from dcpctl.errors import (
    DcpctlError,
    InputError,
    LimitExceeded,
    MissingDependency,
    ReadFailed,
    UnknownForm,
)
from dcpctl.formats.crc import crc32, crc32_range
from dcpctl.formats.dtypes import itemsize
from dcpctl.formats.pickles import policy
from dcpctl.formats.pickles.packed import inner_tensors, packed_in
from dcpctl.formats.pickles.standins import PackedTensor, StorageRef, TensorRef
from dcpctl.formats.torch_zip import TorchItem, decode_pickle, open_item
from dcpctl.formats.zip_directory import ZipRecord
from dcpctl.storage.base import Storage

TENSOR, VALUE, UNKNOWN, UNSHAPED = "tensor", "value", "unknown", "packed"
#: Records up to this size are read at once: they lie beside the archive's directory or start.
_SMALL_RECORD = 4 << 10
#: torch's hash of the record names and checksums, which tells nothing that these do not.
_DERIVED = ".data/serialization_id"


@dataclass(frozen=True, slots=True)
class Found:
    """A storage item.

    Attributes:
        offset: first byte in its file.
        length: bytes.
        kind: TENSOR, VALUE (any other object), UNSHAPED (a packed tensor whose pickle does not say
            its dtype and shape) or UNKNOWN, where its pickle cannot be read.
        dtype: of a tensor, torch's name; else empty.
        sizes: of a tensor; else empty.
        problem: why it is not good; empty if it is.
        unsummed: it records no checksum.
        digest: CRC-32 over the recorded checksums of its records; None without them. Items of the
            same digest hold the same, but for an accident of 1 in 2**32.
        bytes_read: bytes compared with checksums.
    """

    offset: int
    length: int
    kind: str = UNKNOWN
    dtype: str = ""
    sizes: tuple[int, ...] = ()
    problem: str = ""
    unsummed: bool = False
    digest: int | None = None
    bytes_read: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.problem


def look(
    storage: Storage,
    name: str,
    offset: int,
    length: int,
    *,
    transforms: Sequence[str] = (),
    whole: bool = True,
) -> Found:
    """Open an item, decode what describes its tensor, and compare its checksums.

    Args:
        storage: the directory.
        name: the file in it.
        offset: first byte.
        length: bytes.
        transforms: stream transforms of the item.
        whole: read every byte; else only what describes the numbers.

    Raises:
        MissingDependency: the item is compressed and zstandard is not installed.
        ReadFailed: the operating system failed to read.
    """
    try:
        item = open_item(
            storage,
            name,
            offset,
            length,
            transforms=transforms,
            subject="the item",
            payload_bytes=limits.DECOMPRESSED_BYTES,
        )
    except (MissingDependency, ReadFailed):
        raise
    except DcpctlError as error:
        return Found(offset, length, problem=_plain(error))
    try:
        return _look(item, offset, length, whole)
    except ReadFailed:
        raise
    except InputError as error:
        return Found(offset, length, problem=_plain(error))


def _look(item: TorchItem, offset: int, length: int, whole: bool) -> Found:
    wrong: list[str] = []
    unsummed = False
    digest = 0
    read = 0
    for record in item.records.values():
        if record.crc32 is None:
            unsummed = unsummed or record.size > 0
        elif record.name != _DERIVED:
            said = f"{record.name}:{record.size}:{record.crc32}"
            digest = crc32(said.encode(), digest)
        if not whole and record.size > _SMALL_RECORD:
            continue
        if record.crc32 is not None and _sum(item, record) != record.crc32:
            wrong.append(record.name)
        read += record.size
    kind, dtype, sizes = _content(item) if "data.pkl" not in wrong else (UNKNOWN, "", ())
    problem = ""
    if wrong:
        problem = f"record '{wrong[0]}' does not have its checksum"
    elif kind == UNKNOWN:
        problem = "its pickle does not decode"
    return Found(
        offset,
        length,
        kind,
        dtype,
        sizes,
        problem,
        unsummed,
        None if unsummed else digest,
        read,
    )


def _sum(item: TorchItem, record: ZipRecord) -> int:
    if record.size <= _SMALL_RECORD:
        return crc32(item.read(record.name))
    return crc32_range(item.storage, item.file, record.data_offset, record.size)


def _content(item: TorchItem) -> tuple[str, str, tuple[int, ...]]:
    """Kind, dtype and sizes."""
    try:
        if item.record("data.pkl").size > limits.TENSOR_PICKLE_BYTES:
            return VALUE, "", ()
        pickle = item.read("data.pkl")
        ref, storages = _known(pickle) if len(pickle) <= _SMALL_RECORD else _decoded(pickle)
        item.check_storages(storages)
        if ref is None:
            return VALUE, "", ()
        if isinstance(ref, PackedTensor):
            for inner in inner_tensors(ref).values():
                item.check_tensor(inner)
            # A shape that its pickle does not say can be any: the item is told by its place.
            known = ref.dtype and ref.shape is not None
            return (TENSOR, ref.dtype, ref.shape or ()) if known else (UNSHAPED, "", ())
        record = item.check_tensor(ref)
        if math.prod(ref.shape) * itemsize(ref.dtype) > record.size:
            return VALUE, "", ()  # as `TorchItem.tensor`: no tensor that DCP writes
    except (UnknownForm, LimitExceeded):  # an object that is no plain tensor
        return VALUE, "", ()
    except InputError:
        return UNKNOWN, "", ()
    return TENSOR, ref.dtype, tuple(ref.shape)


def _decoded(
    pickle: bytes,
) -> tuple[TensorRef | PackedTensor | None, tuple[StorageRef, ...]]:
    """What a pickle holds, if that is a tensor, and the storages that it names."""
    machine, storages = decode_pickle(pickle, policy.VALUES, subject="the item")
    found = machine.result
    ref = found if isinstance(found, TensorRef) else packed_in(found)
    if isinstance(ref, TensorRef) and machine.uses:
        ref = None  # as `TorchItem.tensor`: torch does not load it as a tensor entry
    elif ref is not None:
        decode_pickle(pickle, policy.TENSORS, subject="the item")
    return ref, storages


#: Thousands of tensors have the same pickle.
_known = functools.lru_cache(maxsize=1024)(_decoded)


def _plain(error: DcpctlError) -> str:
    return error.message.removeprefix("the item: ")
