"""Which tensors of a checkpoint are of a subclass or packed, told by a look at few of their items.

The metadata give a packed tensor the dtype and shape that it shows. What betrays it is the length
of its items: that of a plain tensor is its numbers and some 1,600 bytes around them, which take few
values over a whole checkpoint. So an item is opened where its length is odd, and one of each
length around the numbers; what is of the same dtype, sizes and length is of the same class.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dcpctl.errors import DcpctlError
from dcpctl.formats.dtypes import DTYPES, info
from dcpctl.formats.pickles.packed import inner_tensors, packed_bytes
from dcpctl.formats.pickles.standins import PackedTensor
from dcpctl.model.entry import TensorEntry

#: Bytes around the numbers of a plain item: archive headers, padding, pickle.
_LEAST_AROUND, _MOST_AROUND = 400, 4 << 10
#: Most lengths of which an item is opened although nothing about them is odd.
_MOST_SAMPLES = 48

_Key = tuple[str, tuple[int, ...], int]


@dataclass(frozen=True, slots=True)
class PackedClass:
    """The tensors of one class.

    Attributes:
        type: the class, `module.Class`.
        form: what it is where that is `torch.Tensor`, such as `quantized`; else empty.
        fqns: the entries, in metadata order.
        nbytes: bytes of the numbers that they show.
        packed_bytes: bytes of the numbers that they are made of.
        inner: name, dtype and shape of the tensors in the first item of the first of them.
    """

    type: str
    form: str
    fqns: tuple[str, ...]
    nbytes: int
    packed_bytes: int
    inner: tuple[tuple[str, str, tuple[int, ...]], ...]

    @property
    def name(self) -> str:
        """The class without its module, or what form it is."""
        return self.form or self.type.rpartition(".")[2]


def survey_packed(entries: Iterable[TensorEntry]) -> dict[str, PackedTensor]:
    """Tell which entries are packed: FQN to what their first item holds.

    What cannot be read, and compressed items of no odd dtype, are taken for plain.
    """
    odd: list[TensorEntry] = []
    around: dict[tuple[str, int], list[TensorEntry]] = {}
    for entry in entries:
        known_form = entry.stored.encoding == "torch" and entry.dtype in DTYPES
        if not known_form or not len(entry.chunks):
            continue
        rest = entry.chunks.length[0] - _numbers(entry)
        if entry.stored.transforms:
            rest = _LEAST_AROUND  # what a compressed item takes says nothing
        strange = info(entry.dtype).kind == "quantized" or entry.stored.layout != "strided"
        if strange or not _LEAST_AROUND <= rest <= _MOST_AROUND:
            odd.append(entry)
        elif not entry.stored.transforms:
            around.setdefault((entry.dtype, int(rest)), []).append(entry)
    known: dict[_Key, PackedTensor | None] = {}
    found = {entry.fqn: held for entry in odd if (held := _look(entry, known)) is not None}
    for alike in sorted(around.values(), key=len, reverse=True)[:_MOST_SAMPLES]:
        if _look(alike[0], known) is not None:
            for entry in alike:
                held = _look(entry, known)
                if held is not None:
                    found[entry.fqn] = held
    return found


def packed_classes(
    entries: Iterable[TensorEntry], found: dict[str, PackedTensor]
) -> tuple[PackedClass, ...]:
    """The packed tensors by class, that of most tensors first."""
    members: dict[tuple[str, str], list[TensorEntry]] = {}
    for entry in entries:
        held = found.get(entry.fqn)
        if held is not None:
            members.setdefault((held.type, held.form), []).append(entry)
    made = []
    for (kind, form), group in members.items():
        inner = inner_tensors(found[group[0].fqn])
        made.append(
            PackedClass(
                kind,
                form,
                tuple(entry.fqn for entry in group),
                sum(entry.nbytes for entry in group),
                sum(_packed_bytes(entry, found[entry.fqn]) for entry in group),
                tuple((name, ref.dtype, ref.shape) for name, ref in inner.items()),
            )
        )
    return tuple(sorted(made, key=lambda one: -len(one.fqns)))


def packed_or_none(entry: TensorEntry) -> PackedTensor | None:
    """What the first item of an entry holds, if that is no plain tensor and can be read."""
    try:
        return entry.packed() if len(entry.chunks) else None
    except DcpctlError:
        return None


def _packed_bytes(entry: TensorEntry, first: PackedTensor) -> int:
    """Bytes of the numbers of all chunks; those of other lengths than the first are as dense."""
    own = packed_bytes(first)
    lengths = entry.chunks.length
    return int(sum(max(own + int(length) - int(lengths[0]), 0) for length in lengths.tolist()))


def _numbers(entry: TensorEntry) -> float:
    """Bytes of the first chunk's numbers; as a float, which a hostile shape does not overflow."""
    return float(entry.chunks.sizes[0].astype(np.float64).prod()) * entry.itemsize


def _look(entry: TensorEntry, known: dict[_Key, PackedTensor | None]) -> PackedTensor | None:
    key = (entry.dtype, tuple(entry.chunks.sizes[0].tolist()), int(entry.chunks.length[0]))
    if key not in known:
        known[key] = packed_or_none(entry)
    return known[key]
