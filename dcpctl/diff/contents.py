"""Whether tensors hold the same numbers: as far as stored checksums tell, or by reading them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dcpctl.diff.options import DiffOptions
from dcpctl.diff.subject import Subject
from dcpctl.diff.values import CHECKSUMS, READ, ValueDifference, compare_values, proven_by_crc
from dcpctl.diff.values_open import ChunkOpener
from dcpctl.diff.values_packed import packed_by_checksum
from dcpctl.diff.values_proof import same_bytes
from dcpctl.errors import DcpctlError, PackedItem
from dcpctl.model.entry import TensorEntry

#: Most storage items of one side whose checksums are looked up unasked; each takes a read.
MOST_ITEMS = 20_000


@dataclass(frozen=True, slots=True)
class Contents:
    """The numbers of the tensors that both have, in one shape.

    Attributes:
        read: they were read where checksums prove nothing; else checksums alone were looked at.
        tensors: how many tensors.
        equal: of these, the equal ones.
        proven: of the equal ones, those of which no number was read.
        different: those that are not equal; where nothing was read, `how` says that checksums
            differ and the measures say nothing.
        unknown: keys in A and in B of those of which nothing is known.
        unread: those that could not be read; their `failure` says why.
        too_many: checksums were not looked up because there are more than `MOST_ITEMS`.
    """

    read: bool
    tensors: int
    equal: int
    proven: int
    different: tuple[ValueDifference, ...] = ()
    unknown: tuple[tuple[str, str], ...] = ()
    unread: tuple[ValueDifference, ...] = ()
    too_many: bool = False


def contents_by_checksum(a: Subject, b: Subject, pairs: Iterable[tuple[str, str]]) -> Contents:
    """Tell what the stored checksums say; reads some KiB an item and no number.

    Nothing is looked up where a checkpoint has more than `MOST_ITEMS` items.
    """
    entries = _entries(a, b, pairs)
    items = max((sum(pair[side].num_chunks for pair in entries) for side in (0, 1)), default=0)
    opener = ChunkOpener()
    equal = 0
    different: list[ValueDifference] = []
    unknown: list[tuple[str, str]] = []
    for one, other in entries:
        proven = _proven(one, other, opener) if items <= MOST_ITEMS else None
        if proven is None:
            unknown.append((one.fqn, other.fqn))
        elif proven:
            equal += 1
        else:
            different.append(ValueDifference(one.fqn, other.fqn, one.numel, CHECKSUMS))
    return Contents(
        read=False,
        tensors=len(entries),
        equal=equal,
        proven=equal,
        different=tuple(different),
        unknown=tuple(unknown),
        too_many=items > MOST_ITEMS,
    )


def contents_by_value(
    a: Subject, b: Subject, pairs: Iterable[tuple[str, str]], options: DiffOptions
) -> Contents:
    """Compare all numbers; what checksums prove is not read."""
    entries = _entries(a, b, pairs)
    found = list(
        compare_values(
            entries,
            tolerance=options.tolerance,
            threads=options.threads,
            progress=options.progress,
        )
    )
    return Contents(
        read=True,
        tensors=len(entries),
        equal=sum(one.same for one in found),
        proven=sum(one.same and one.how != READ for one in found),
        different=tuple(one for one in found if not one.same and one.failure is None),
        unread=tuple(one for one in found if one.failure is not None),
    )


def _proven(a: TensorEntry, b: TensorEntry, opener: ChunkOpener) -> bool | None:
    """What is proven; damaged items prove nothing, and are for `check` and `--values` to tell."""
    try:
        try:
            return same_bytes(a, b) or proven_by_crc(a, b, opener)
        except PackedItem:
            return packed_by_checksum(a, b)
    except DcpctlError:
        return None


def _entries(
    a: Subject, b: Subject, pairs: Iterable[tuple[str, str]]
) -> Sequence[tuple[TensorEntry, TensorEntry]]:
    return [(a.tensors[one], b.tensors[other]) for one, other in pairs]
