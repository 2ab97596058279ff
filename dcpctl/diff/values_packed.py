"""Tensors of a subclass or packed ones compared: item by item, by class and stored bytes.

What the numbers mean only their class knows, so that there is no distance between two of them.
"""

from __future__ import annotations

from dcpctl.diff.values_difference import CHECKSUMS, READ, ValueDifference
from dcpctl.diff.values_regions import same_layout
from dcpctl.errors import PackedItem, quote
from dcpctl.formats.chunk_read import open_held
from dcpctl.formats.pickles.packed import inner_tensors
from dcpctl.formats.pickles.standins import PackedTensor
from dcpctl.formats.torch_zip import TorchItem
from dcpctl.model.entry import TensorEntry

#: Bytes of a record that are compared at a time.
_BLOCK = 4 << 20


def compare_packed(a: TensorEntry, b: TensorEntry, *, trust: bool) -> ValueDifference:
    """Compare two tensors of which at least one is packed.

    Args:
        a: the tensor of A.
        b: the tensor of B, of the same shape.
        trust: take equal checksums for equal bytes.

    Returns:
        A difference without distances; `unequal` are the elements of the chunks whose stored
        tensors differ.

    Raises:
        PackedItem: their chunks lie differently, or one of them is not packed.
        As `open_held` and `Storage.read`.
    """
    pairs = same_layout(a, b)
    if pairs is None:
        raise PackedItem(
            f"{quote(a.fqn)} is of a tensor subclass and cut differently in B: only its class can "
            "put it together"
        )
    unequal = read = 0
    for row, other in zip(*(rows.tolist() for rows in pairs), strict=True):
        same, nbytes = _same(_held(a, row), _held(b, other), trust)
        read += nbytes
        if not same:
            unequal += int(a.chunks.sizes[row].prod())
    return ValueDifference(
        a.fqn,
        b.fqn,
        a.numel,
        READ if read or unequal else CHECKSUMS,
        bytes_read=read,
        unequal=unequal,
        max_abs=None,
        cosine=None,
    )


def packed_by_checksum(a: TensorEntry, b: TensorEntry) -> bool | None:
    """Say what checksums prove of two packed tensors; None where they prove nothing.

    Raises:
        As `compare_packed`.
    """
    pairs = same_layout(a, b)
    if pairs is None:
        return None
    proven: bool | None = True
    for row, other in zip(*(rows.tolist() for rows in pairs), strict=True):
        one, two = _held(a, row), _held(b, other)
        if any(record.crc32 is None for item, _ in (one, two) for record in item.records.values()):
            proven = None
        elif not _same(one, two, trust=True)[0]:
            return False
    return proven


def _held(entry: TensorEntry, row: int) -> tuple[TorchItem, PackedTensor]:
    item, held = open_held(entry.storage_of(row), entry.chunk_source(row))
    if not isinstance(held, PackedTensor):
        raise PackedItem(
            f"{quote(entry.fqn)} is a plain tensor on one side and packed on the other"
        )
    return item, held


def _same(
    one: tuple[TorchItem, PackedTensor], other: tuple[TorchItem, PackedTensor], trust: bool
) -> tuple[bool, int]:
    """Whether two items hold the same, and the bytes read to see it."""
    (a, held), (b, its) = one, other
    if (held.type, held.form, held.dtype, held.shape) != (its.type, its.form, its.dtype, its.shape):
        return False, 0
    refs, others = inner_tensors(held), inner_tensors(its)
    if refs != others:
        return False, 0
    read = 0
    for key in dict.fromkeys(ref.key for ref in refs.values()):
        x, y = a.record(f"data/{key}"), b.record(f"data/{key}")
        if x.size != y.size:
            return False, read
        if trust and x.crc32 is not None and y.crc32 is not None:
            if x.crc32 != y.crc32:
                return False, read
            continue
        for start in range(0, x.size, _BLOCK):
            stop = min(start + _BLOCK, x.size)
            read += 2 * (stop - start)
            if a.read(x.name, start, stop) != b.read(y.name, start, stop):
                return False, read
    return True, read
