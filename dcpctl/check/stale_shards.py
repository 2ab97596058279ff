"""Chunks of moments that are, bit for bit, those of an earlier save, while the run went on.

A moment decays in every step that its parameter takes part in, so no number but zero keeps its
bits. Where one chunk of a tensor is unchanged and another changed, or the parameter's own step went
on, the unchanged chunk is the earlier save's. Checksums tell, and few numbers are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from dcpctl.check.history import History
from dcpctl.errors import DcpctlError
from dcpctl.formats.torch_zip import open_item
from dcpctl.model.entry import TensorEntry
from dcpctl.model.fqn import strip_wrappers
from dcpctl.model.optimizer.coverage import Parameter

#: Slots that decay fast enough for every dtype to show it, and those that float32 shows.
_FAST = frozenset({"exp_avg", "momentum_buffer"})
_SLOW = frozenset({"exp_avg_sq", "exp_inf", "square_avg"})
_WIDE = ("float32", "float64")
#: Most tensors, and most chunks of each, whose checksums are looked up.
MOST_TENSORS, MOST_CHUNKS = 128, 64
#: Numbers of a chunk that are read to see that they are not all zero.
_SAMPLE = 4096


@dataclass(slots=True)
class Stale:
    """What is left of the earlier save.

    Attributes:
        moments: moments that every step changes, in both saves; an optimizer may keep none.
        compared: those of them that were compared.
        chunks: (FQN, file of the later save) of each chunk that is the earlier save's.
        changed: files of the later save that hold a chunk which changed.
        unread: FQNs that could not be read, and why.
    """

    moments: int = 0
    compared: int = 0
    chunks: list[tuple[str, int]] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[int, ...]:
        """The files with such chunks."""
        return tuple(dict.fromkeys(file for _, file in self.chunks))


def find_stale(history: History) -> Stale:
    """Compare the moments of two saves by the checksums of their chunks."""
    found = Stale()
    steps = history.earlier.view.step_of, history.later.view.step_of
    for name, old, new in islice(_pairs(history), MOST_TENSORS):
        found.moments += 1
        before, after = steps[0].get(name[0]), steps[1].get(name[1])
        went_on = before is not None and after is not None and after > before
        try:
            _compare(old, new, went_on, found)
        except DcpctlError as error:
            found.unread[new.fqn] = error.message
    return found


def _pairs(history: History) -> Iterator[tuple[tuple[str, str], TensorEntry, TensorEntry]]:
    """The parameter's name in both saves, and the moment of both."""
    earlier = {strip_wrappers(p.name): p for p in history.earlier.view.parameters}
    for parameter in history.later.view.parameters:
        before = earlier.get(strip_wrappers(parameter.name))
        if before is None or "Sparse" in (parameter.kind.name or "Sparse"):
            continue
        for slot, state in parameter.slots.items():
            if slot not in before.slots or not _decays(parameter, slot, state.dtype):
                continue
            old = history.earlier.checkpoint.tensors.get(before.slots[slot].fqn)
            new = history.later.checkpoint.tensors.get(state.fqn)
            if old is not None and new is not None and old.dtype == new.dtype:
                yield (before.name, parameter.name), old, new


def _decays(parameter: Parameter, slot: str, dtype: str | None) -> bool:
    known = parameter.rule(slot)
    if known is None or known.shape != "param":
        return False
    return slot in _FAST or (slot in _SLOW and dtype in _WIDE)


def _compare(old: TensorEntry, new: TensorEntry, went_on: bool, found: Stale) -> None:
    rows = {(c.offsets, c.sizes): row for row, c in enumerate(old.chunks)}
    same: list[int] = []
    apart: set[int] = set()
    for row, chunk in islice(enumerate(new.chunks), MOST_CHUNKS):
        other = rows.get((chunk.offsets, chunk.sizes))
        if other is None or 0 in chunk.sizes:
            continue
        sums = _checksum(old, other), _checksum(new, row)
        if sums[0] is None or sums[1] is None:
            continue
        if sums[0] != sums[1]:
            apart.add(chunk.file)
        elif _has_numbers(new, row):
            same.append(row)
    found.compared += bool(same or apart)
    found.changed |= apart
    if apart or went_on:
        found.chunks += [(new.fqn, new.chunks[row].file) for row in same]


def _checksum(entry: TensorEntry, row: int) -> tuple[int, int] | None:
    """Bytes and CRC-32 of a chunk's numbers; None where torch recorded none."""
    if entry.stored.encoding != "torch" or entry.stored.transforms:
        return None
    source = entry.chunk_source(row)
    item = open_item(
        entry.storage_of(row), source.file, source.offset, source.length, subject=source.subject
    )
    data = [record for name, record in item.records.items() if name.startswith("data/")]
    if len(data) != 1 or data[0].crc32 is None:
        return None
    return data[0].size, data[0].crc32


def _has_numbers(entry: TensorEntry, row: int) -> bool:
    """Whether the first numbers of a chunk are not all zero; zeros stay what they are."""
    sizes = entry.chunks[row].sizes
    stops = list(sizes)
    for dim in range(len(stops) - 1):
        stops[dim] = min(stops[dim], max(1, _SAMPLE // max(1, stops[-1])))
    stops[-1:] = [min(size, _SAMPLE) for size in stops[-1:]]
    return bool(entry.read_chunk(row, (0,) * len(stops), tuple(stops)).any())
