"""One storage item: its archive, its checksums, and what its pickle says, without keeping bytes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from dcpctl import limits
from dcpctl.check.items import Items, part_of
from dcpctl.errors import (
    BigEndianItem,
    DcpctlError,
    InputError,
    LegacyItem,
    MissingFile,
    PathOutsideCheckpoint,
    TruncatedFile,
    UnknownForm,
    Unloadable,
    quote,
)
from dcpctl.formats.crc import crc32, crc32_range
from dcpctl.formats.dtypes import info as dtype_info
from dcpctl.formats.dtypes import itemsize
from dcpctl.formats.pickles.imports import Import, is_class_name
from dcpctl.formats.pickles.packed import inner_tensors
from dcpctl.formats.pickles.standins import PackedTensor, StorageRef, TensorRef
from dcpctl.formats.torch_zip import TorchItem, open_item
from dcpctl.formats.zip_directory import ZipRecord
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.entry import TensorEntry
from dcpctl.storage.base import Storage

#: Records up to this size are read at once: they lie beside the archive's directory or start.
_SMALL_RECORD = 4 << 10
#: Items that are decompressed at once: each may hold 64 MiB of memory.
_DECOMPRESSIONS = 2
#: Pickles that are remembered, since thousands are the same.
_REMEMBERED = 4096

# Kinds of numbers that torch can keep negated (`Tensor.neg` of a view).
_SIGNED = ("complex", "float")


@dataclass(frozen=True, slots=True)
class Damage:
    """A record whose bytes do not have their checksum.

    Attributes:
        record: its name in the archive.
        size: its bytes.
        offset: first byte in the file; of a compressed item, where the item begins.
        found: CRC-32 of the bytes.
        recorded: CRC-32 in the archive's directory.
    """

    record: str
    size: int
    offset: int
    found: int
    recorded: int

    @property
    def is_data(self) -> bool:
        """Whether it is a tensor's numbers, and not what describes them."""
        return self.record.startswith("data/")


@dataclass(slots=True)
class ItemReport:
    """What was found in one item.

    Attributes:
        fqn: its entry.
        file: its shard file.
        file_number: number of that file in the checkpoint.
        offset: first byte.
        length: bytes.
        is_value: it is a bytes entry.
        unread: why it could not be looked at; empty if it could.
        unknown: what about its form dcpctl does not know; empty if nothing.
        unloadable: torch does not load that form, or not without running what it says.
        malformed: what is wrong with the archive or pickle; empty if nothing is.
        unlike: what the item holds instead of what the metadata say; empty if that.
        damage: records with wrong checksums.
        unsummed: it records no checksum.
        globals: unknown globals that its pickle refers to, and what it does with them.
        packed: the tensor that it holds, where that is of a subclass or packed.
        verified: every record was read.
        bytes_read: bytes compared.
    """

    fqn: str
    file: str
    file_number: int
    offset: int
    length: int
    is_value: bool
    unread: str = ""
    unknown: str = ""
    unloadable: bool = False
    malformed: str = ""
    unlike: str = ""
    damage: list[Damage] = field(default_factory=list)
    unsummed: bool = False
    globals: tuple[Import, ...] = ()
    packed: PackedTensor | None = None
    verified: bool = False
    bytes_read: int = 0

    @property
    def remarkable(self) -> bool:
        """Whether a rule may want to see it."""
        return bool(
            self.unread
            or self.unknown
            or self.malformed
            or self.unlike
            or self.damage
            or self.globals
        )


class ItemReader:
    """Reads items; its methods may be called from several threads.

    Args:
        checkpoint: opened.
        items: its items.
    """

    def __init__(self, checkpoint: Checkpoint, items: Items) -> None:
        self._entries = checkpoint.entries
        self._files = checkpoint.files
        self._items = items
        self._parts = [part_of(checkpoint, number) for number in range(len(checkpoint.files))]
        self._room = threading.BoundedSemaphore(_DECOMPRESSIONS)
        self._known: dict[bytes, tuple[tuple[Import, ...], tuple[StorageRef, ...]]] = {}
        self._tensors: dict[bytes, tuple[TensorRef | PackedTensor, tuple[StorageRef, ...]]] = {}

    def read(self, item: int, *, whole: bool) -> ItemReport:
        """Look at one item; read all its bytes if `whole`."""
        items = self._items
        number, row = int(items.file[item]), int(items.row[item])
        fqn = items.fqn(item)
        entry = self._entries.get(fqn)
        report = ItemReport(
            fqn,
            self._files[number].name,
            number,
            int(items.offset[item]),
            int(items.length[item]),
            is_value=entry is not None and not isinstance(entry, TensorEntry),
        )
        part = self._parts[number]
        name = part.stored.files[number - part.first_file]
        transforms = () if entry is None else entry.stored.transforms
        tensor = entry if isinstance(entry, TensorEntry) else None
        try:
            if tensor is not None and tensor.stored.encoding == "raw":
                self._read_raw(report, part.storage, name, whole)
            elif transforms:
                with self._room:
                    self._read_archive(report, part.storage, name, transforms, tensor, row, whole)
            else:
                self._read_archive(report, part.storage, name, (), tensor, row, whole)
        except (MissingFile, TruncatedFile, PathOutsideCheckpoint) as error:
            report.unread = error.message
        except UnknownForm as error:
            report.unknown = error.message
            # A legacy stream torch would read, but no DCP release writes one into an item. Of a
            # big-endian item it swaps the bytes by the storage's class, and so misreads the dtypes
            # that have none (uint16, float8_e4m3fn, ...).
            report.unloadable = isinstance(error, (Unloadable, LegacyItem, BigEndianItem))
            if isinstance(error, LegacyItem) and report.is_value:
                report.unknown += "; torch unpickles it without restriction, which runs its code"
        except InputError as error:
            report.malformed = error.message
        except DcpctlError as error:
            report.unread = error.message
        return report

    def _read_raw(self, report: ItemReport, storage: Storage, name: str, whole: bool) -> None:
        """Bare numbers have no checksum; that they can be read is all there is to see."""
        report.unsummed = True
        if whole:
            crc32_range(storage, name, report.offset, report.length)
            report.verified, report.bytes_read = True, report.length

    def _read_archive(
        self,
        report: ItemReport,
        storage: Storage,
        name: str,
        transforms: tuple[str, ...],
        tensor: TensorEntry | None,
        row: int,
        whole: bool,
    ) -> None:
        subject = quote(report.fqn)
        sizes = tensor.chunks[row].sizes if tensor is not None and row >= 0 else None
        promised = limits.VALUE_BYTES
        if tensor is not None and sizes is not None:
            promised = _promised(sizes, tensor.dtype)
        item = open_item(
            storage,
            name,
            report.offset,
            report.length,
            transforms=transforms,
            subject=subject,
            payload_bytes=promised,
        )
        report.verified = True
        for record in item.records.values():
            if record.crc32 is None:
                report.unsummed = report.unsummed or record.size > 0
            if whole or record.size <= _SMALL_RECORD:
                self._compare(report, item, record, bool(transforms))
            else:
                report.verified = False
        if report.verified:
            report.bytes_read = report.length  # the headers between the records too
        if any(not damage.is_data for damage in report.damage):
            return  # what a damaged pickle says is not worth a second finding
        # Copies that other ranks wrote for themselves are loaded there.
        report.globals = self._unknown_globals(item, is_value=tensor is None)
        if tensor is not None and sizes is not None:
            ref = self._tensor(item)
            if isinstance(ref, PackedTensor):
                report.packed = ref
                # Its class is told as a packed tensor; what a pickle calls besides is not.
                report.globals = tuple(
                    used for used in report.globals if used.runs or not is_class_name(used.path)
                )
            if not _alike(ref, tensor.dtype, tuple(sizes)):
                shape = "" if ref.shape is None else list(ref.shape)
                report.unlike = (
                    f"the item holds {ref.dtype}{shape}, .metadata describes "
                    f"{tensor.dtype}{list(sizes)}"
                )

    def _compare(
        self, report: ItemReport, item: TorchItem, record: ZipRecord, transformed: bool
    ) -> None:
        """Compare one record with its checksum, if it has one."""
        if record.size <= _SMALL_RECORD:
            found = crc32(item.read(record.name))
        else:
            found = crc32_range(item.storage, item.file, record.data_offset, record.size)
        report.bytes_read += record.size
        if record.crc32 is not None and record.crc32 != found:
            at = report.offset if transformed else record.data_offset
            report.damage.append(Damage(record.name, record.size, at, found, record.crc32))

    def _tensor(self, item: TorchItem) -> TensorRef | PackedTensor:
        """What tensor the item holds; equal chunks of a layer stack have equal pickles."""
        record = item.record("data.pkl")
        data = item.read("data.pkl") if record.size <= _SMALL_RECORD else b""
        found = self._tensors.get(data)
        if found is None:
            known = item.held()
            _check_bits(known, item.subject)
            if data and len(self._tensors) < _REMEMBERED:
                self._tensors[data] = known, item.storages
            return known
        known, storages = found
        item.check_storages(storages)
        refs = (known,) if isinstance(known, TensorRef) else inner_tensors(known).values()
        for ref in refs:
            item.check_tensor(ref)
        return known

    def _unknown_globals(self, item: TorchItem, *, is_value: bool) -> tuple[Import, ...]:
        small = item.record("data.pkl").size <= _SMALL_RECORD
        data = item.read("data.pkl") if small else b""
        found = self._known.get(data)
        if found is not None:
            item.check_storages(found[1])
            return found[0]
        machine = item.decode(limits.VALUE_BYTES)
        if is_value:
            item.check_devices()
        known = tuple(Import(*used) for used in sorted(machine.uses.items()))
        if data and len(self._known) < _REMEMBERED:
            self._known[data] = known, item.storages
        return known


def _alike(ref: TensorRef | PackedTensor, dtype: str, sizes: tuple[int, ...]) -> bool:
    """Whether a tensor is what the metadata promise, as far as its pickle says what it is."""
    return ref.dtype in (dtype, "") and ref.shape in (sizes, None)


def _check_bits(ref: TensorRef | PackedTensor, subject: str) -> None:
    """Refuse a conjugate or negative bit on numbers that cannot have it."""
    refs = inner_tensors(ref).values() if isinstance(ref, PackedTensor) else (ref,)
    for one in refs:
        kind = dtype_info(one.dtype).kind
        if (one.conj and kind != "complex") or (one.neg and kind not in _SIGNED):
            raise UnknownForm(f"{subject}: a conjugate or negative bit on {one.dtype}")


def _promised(sizes: tuple[int, ...], dtype: str) -> int:
    """Bytes of a chunk's numbers, for hostile sizes too."""
    total = itemsize(dtype)
    for size in sizes:
        total *= max(size, 0)
    return total
