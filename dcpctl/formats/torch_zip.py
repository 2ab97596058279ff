"""One storage item that torch.save wrote, read by ranges and decoded without torch.

A tensor entry of DCP is an archive of one tensor; a bytes entry is an archive of any picklable
value, which may hold tensors of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from dcpctl import limits
from dcpctl.errors import (
    LegacyItem,
    LimitExceeded,
    MalformedItem,
    MalformedPickle,
    PackedItem,
    UnknownForm,
    Unloadable,
    listed,
    quote,
)
from dcpctl.formats import transforms as stream_transforms
from dcpctl.formats.crc import crc32_range
from dcpctl.formats.dtypes import itemsize
from dcpctl.formats.pickles import calls, policy, vm
from dcpctl.formats.pickles.packed import inner_tensors, packed_in
from dcpctl.formats.pickles.standins import Opaque, PackedTensor, StorageRef, TensorRef
from dcpctl.formats.pickles.torch_names import torch_names
from dcpctl.formats.tensor_values import materialize
from dcpctl.formats.zip_directory import Window, ZipRecord, read_directory
from dcpctl.storage.base import Storage

#: `_legacy_save`'s magic number as a protocol 2 pickle (`torch/serialization.py`, before 1.6).
_LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"
_PROTOCOL_2 = b"\x80\x02"
#: What decompression may add to the tensor's own bytes: pickle, headers, padding.
_ARCHIVE_OVERHEAD = 1 << 20


def open_item(
    storage: Storage,
    name: str,
    offset: int,
    length: int,
    *,
    transforms: Sequence[str] = (),
    subject: str,
    payload_bytes: int | None = None,
) -> TorchItem:
    """Open the archive at [offset, offset + length) of a shard file.

    Takes two reads of 4 KiB, or one where the item is small. A transformed item is decompressed
    whole.

    Args:
        storage: the checkpoint's files.
        name: shard file, relative.
        offset: first byte of the item in the file.
        length: bytes of the item.
        transforms: the item's `transform_descriptors`.
        subject: FQN or other name of the item, for messages; already quoted.
        payload_bytes: bytes of tensor data that the metadata promises; bounds decompression.

    Raises:
        MalformedItem: the bytes are no archive, or one that contradicts itself.
        LegacyItem: written by torch before 1.6.
        BigEndianItem: written on a big-endian machine.
        UnknownForm: transformed in an unknown way.
        LimitExceeded: more records or decompressed bytes than the limits allow.
        MissingDependency: the item is compressed and the package zstandard is not installed.
        TruncatedFile, MissingFile, PathOutsideCheckpoint, ReadFailed: as `Storage.read`.
    """
    if transforms:
        limit = limits.DECOMPRESSED_VALUE_BYTES
        if payload_bytes is not None:
            limit = payload_bytes + _ARCHIVE_OVERHEAD
        storage = stream_transforms.decode_item(
            storage, name, offset, length, transforms=transforms, subject=subject, limit=limit
        )
        name, offset, length = "", 0, storage.size("")
    return TorchItem(Window(storage, name, offset, length), subject)


def decode_pickle(
    data: bytes, known: policy.Policy, *, subject: str
) -> tuple[vm.Machine, tuple[StorageRef, ...]]:
    """Run a pickle as torch.save writes it into an archive.

    Args:
        data: the record `data.pkl`.
        known: which globals are known.
        subject: what the pickle is, for messages.

    Returns:
        The machine, whose `result` is the value, and the storages that the pickle names.

    Raises:
        MalformedPickle, LimitExceeded: as `vm.load`.
    """
    if data[:2] != _PROTOCOL_2:
        raise MalformedPickle(f"{subject}: a pickle of another protocol than torch.save's")
    storages = calls.Storages()
    machine = vm.Machine(data, known, subject, storages)
    machine.run()
    return machine, tuple(storages.found.values())


class TorchItem:
    """An open archive; see `open_item`. Holds no file open by itself.

    Attributes:
        storage: where the records' `data_offset` count: the checkpoint's storage, or the
            decompressed item.
        file: the file in `storage` that they count in.
        records: every record by its name without the archive's prefix, in order.
        subject: what the item is, for messages.
    """

    def __init__(self, window: Window, subject: str) -> None:
        self._window = window
        self.subject = subject
        self.storage = window.storage
        self.file = window.name
        self.records: dict[str, ZipRecord]
        #: Of the pickle that was decoded last.
        self.storages: tuple[StorageRef, ...] = ()
        try:
            self.records = read_directory(window, subject)
        except MalformedItem:
            if window.read(0, min(window.length, len(_LEGACY_MAGIC))) == _LEGACY_MAGIC:
                raise LegacyItem(
                    f"{subject}: written by torch.save before 1.6 (no ZIP archive)"
                ) from None
            raise

    def read(self, record: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes [start, stop) of a record, by default all of it.

        Raises:
            MalformedItem: there is no such record, or it is smaller than `stop`.
        """
        found = self.record(record)
        last = found.size if stop is None else stop
        if not 0 <= start <= last <= found.size:
            raise MalformedItem(
                f"{self.subject}: bytes {start} to {last} of record {quote(record)} are asked for, "
                f"which has {found.size}"
            )
        first = found.data_offset - self._window.offset
        return self._window.read(first + start, first + last)

    def record(self, name: str) -> ZipRecord:
        """Return the record `name`; raises MalformedItem if there is none."""
        found = self.records.get(name)
        if found is None:
            raise MalformedItem(f"{self.subject}: the archive has no record {quote(name)}")
        return found

    def check_crc(self, name: str) -> bool | None:
        """Read a record and compare its CRC-32.

        Returns:
            Whether it is the recorded one; None if the archive records none.
        """
        found = self.record(name)
        if found.crc32 is None:
            return None
        return crc32_range(self.storage, self.file, found.data_offset, found.size) == found.crc32

    def tensor(self) -> TensorRef:
        """Describe the one plain tensor that the item holds, and see that its data are all there.

        Raises:
            PackedItem: it holds a tensor of a subclass, or one that is packed.
            UnknownForm: the item holds something else than one tensor.
            MalformedItem: the tensor does not fit into its record.
            MalformedPickle, LimitExceeded: as `vm.load`.
        """
        ref = self.held()
        if isinstance(ref, PackedTensor):
            what = f"a {ref.name}" if ref.form else f"a tensor of the class {quote(ref.type)}"
            raise PackedItem(
                f"{self.subject}: holds {what}, whose numbers are not laid out as its dtype and "
                "shape say"
            )
        return ref

    def held(self) -> TensorRef | PackedTensor:
        """Describe the tensor that the item holds, plain or packed.

        Raises:
            UnknownForm: it holds something else than one tensor, or as `tensor`.
            MalformedItem: a tensor does not fit into its record.
            MalformedPickle, LimitExceeded: as `vm.load`.
        """
        machine = self.decode(limits.TENSOR_PICKLE_BYTES, policy.TENSORS)
        ref = machine.result
        packed = packed_in(ref)
        if packed is not None:
            for inner in inner_tensors(packed).values():
                self.check_tensor(inner)
            return packed
        if type(ref) is not TensorRef:
            kind = ref.type if isinstance(ref, Opaque) else type(ref).__name__
            raise Unloadable(f"{self.subject}: holds a {quote(kind)}, not a tensor")
        refused = machine.uses.keys() | machine.globals - torch_names().safe.keys()
        if refused:
            raise Unloadable(f"{self.subject}: its pickle refers to {listed(sorted(refused))}")
        record = self.check_tensor(ref)
        if math.prod(ref.shape) * itemsize(ref.dtype) > record.size:
            # Of an expanded tensor DCP writes a contiguous copy, so that this one is made by hand.
            raise UnknownForm(
                f"{self.subject}: the tensor {ref.dtype}{list(ref.shape)} with strides "
                f"{list(ref.stride)} shows the same bytes more than once"
            )
        return ref

    def value(self) -> Any:
        """Decode a bytes entry.

        Returns:
            Plain Python values. A tensor of up to `limits.SMALL_TENSOR_BYTES` is a `TensorValue`,
            a larger one stays a `TensorRef`; an object of an unknown class is an `Opaque`.

        Raises:
            MalformedPickle, LimitExceeded: as `vm.load`.
            MalformedItem, UnknownForm: as `tensor`.
        """
        decoded = self.decode(limits.VALUE_BYTES).result
        self.check_devices()
        return materialize(decoded, subject=self.subject, item=self)

    def decode(self, limit: int, known: policy.Policy = policy.VALUES) -> vm.Machine:
        """Run the pickle of the item, and see that it and the records name the same storages.

        Args:
            limit: most bytes of the pickle.
            known: which globals are known.

        Returns:
            The machine, whose `result` is the value.

        Raises:
            MalformedPickle, LimitExceeded: as `vm.load`.
            MalformedItem: the records are not those of the storages.
        """
        size = self.record("data.pkl").size
        if size > limit:
            raise LimitExceeded(f"{self.subject}: a pickle of {size} bytes, over {limit}")
        machine, self.storages = decode_pickle(self.read("data.pkl"), known, subject=self.subject)
        self.check_storages(self.storages)
        return machine

    def check_devices(self) -> None:
        """See that torch has the devices of the storages that were decoded last.

        It puts the tensors of bytes entries where they were, and those of tensor entries not.

        Raises:
            MalformedItem: it has no such device.
        """
        for ref in self.storages:
            if ref.device.partition(":")[0] not in calls.DEVICES:
                raise MalformedItem(f"{self.subject}: torch has no device {quote(ref.device)}")

    def check_storages(self, storages: Iterable[StorageRef]) -> None:
        """See that each storage has its record, of its size, and that there are no others."""
        wanted = {
            f"data/{ref.key}": ref.storage_numel * itemsize(ref.storage_dtype) for ref in storages
        }
        for name, size in wanted.items():
            if self.record(name).size != size:
                raise MalformedItem(
                    f"{self.subject}: record {quote(name)} has {self.record(name).size} bytes, its "
                    f"storage {size}"
                )
        for name in self.records:
            if name.startswith("data/") and name not in wanted:
                raise MalformedItem(f"{self.subject}: no tensor refers to record {quote(name)}")

    def check_tensor(self, ref: TensorRef) -> ZipRecord:
        """Return the record with the numbers of `ref`, which lie all inside it.

        Raises:
            MalformedItem: there is no such record, or it is too small for shape and strides.
            UnknownForm: unknown dtype, or too many dimensions.
        """
        if len(ref.shape) > limits.TENSOR_DIMS:
            raise UnknownForm(f"{self.subject}: a tensor of {len(ref.shape)} dimensions")
        record = self.record(f"data/{ref.key}")
        width = itemsize(ref.dtype)
        needed = calls.span(ref.storage_offset, ref.shape, ref.stride) * width
        if needed > record.size:
            raise MalformedItem(
                f"{self.subject}: the tensor {ref.dtype}{list(ref.shape)} needs {needed} bytes, "
                f"its record {quote(record.name)} has {record.size}"
            )
        return record
