"""Copies of one thing that several ranks saved, each for itself: are they equal?

Per-rank metadata (`use_collectives=False`) keep whatever is replicated once a rank. A model that is
replicated is equal on all ranks; the state of a random number generator, and where each rank was
in its data, are not. The checksums that torch wrote tell, and no number is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dcpctl.errors import DcpctlError, quote
from dcpctl.formats.torch_zip import TorchItem, open_item
from dcpctl.model.checkpoint import Checkpoint, Entry, Part
from dcpctl.model.entry import TensorEntry
from dcpctl.model.values import Unknown

#: Most copies whose checksums are looked up; each takes a read or two.
MOST_COPIES = 20_000
_BLOCK_BYTES = 1 << 20
_PICKLE, _DATA = "data.pkl", "data/"


@dataclass(frozen=True, slots=True)
class Differing:
    """An entry of which the ranks have different copies.

    Attributes:
        fqn: the entry.
        kept: the rank whose copy is read.
        ranks: ranks whose copies differ from that one, ascending.
    """

    fqn: str
    kept: int | None
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Copies:
    """What the copies of a checkpoint come to.

    Attributes:
        of: every entry that several ranks saved a copy of, with the number of further copies.
        differing: those whose copies differ.
        unknown: those whose copies could not be compared, and why.
    """

    of: Mapping[str, int]
    differing: tuple[Differing, ...] = ()
    unknown: tuple[Unknown, ...] = ()

    @property
    def equal(self) -> frozenset[str]:
        """The entries of which all copies are there and equal."""
        apart = {one.fqn for one in self.differing} | {one.fqn for one in self.unknown}
        return frozenset(self.of) - apart


def compare_copies(checkpoint: Checkpoint) -> Copies | None:
    """Compare the copies that ranks saved of the same things; None where there are none.

    Reads some KiB a copy: the checksums in the archives, and bytes only where torch recorded none.
    """
    copies = [(part, copy) for part in checkpoint.parts for copy in part.stored.replicas]
    if not copies:
        return None
    files = {(copy.fqn, part.first_file + copy.file) for part, copy in copies}
    of = Counter(fqn for fqn, _ in files)
    if len(copies) > MOST_COPIES:
        why = f"there are more than {MOST_COPIES:,} copies"
        return Copies(of, unknown=tuple(Unknown(fqn, why) for fqn in sorted(of)))
    differing: dict[str, tuple[int | None, set[int]]] = {}
    unknown: dict[str, Unknown] = {}
    for part in checkpoint.parts:
        for fqn, pair in _pairs(checkpoint, part):
            first, other = pair
            try:
                same = _same(part, first, other, checkpoint[fqn])
            except DcpctlError as error:
                unknown.setdefault(fqn, Unknown(fqn, error.message))
                continue
            if not same:
                apart = differing.setdefault(fqn, (_rank(checkpoint, part, first), set()))
                apart[1].add(_rank(checkpoint, part, other) or 0)
    found = (Differing(fqn, kept, tuple(sorted(r))) for fqn, (kept, r) in differing.items())
    left = tuple(one for fqn, one in unknown.items() if fqn not in differing)
    return Copies(of, tuple(found), left)


#: File number in the part, offset and length of a storage item.
_Item = tuple[int, int, int]


def _pairs(checkpoint: Checkpoint, part: Part) -> Iterator[tuple[str, tuple[_Item, _Item]]]:
    """Each copy beside the item that is read, by the entry's FQN."""
    known: dict[tuple[str, tuple[int, ...] | None], _Item] = {}
    for copy in part.stored.replicas:
        entry = checkpoint.entries.get(copy.fqn)
        if entry is None:
            continue
        key = (copy.fqn, copy.offsets)
        if key not in known:
            if isinstance(entry, TensorEntry):
                rows = (entry.chunks[row] for row in range(len(entry.chunks)))
                found = next((c for c in rows if c.offsets == copy.offsets), None)
                if found is None:
                    continue
                known[key] = (found.file - part.first_file, found.offset, found.length)
            else:
                known[key] = (entry.file - part.first_file, entry.offset, entry.length)
        yield copy.fqn, (known[key], (copy.file, copy.offset, copy.length))


def _rank(checkpoint: Checkpoint, part: Part, item: _Item) -> int | None:
    return checkpoint.files[part.first_file + item[0]].rank


def _same(part: Part, one: _Item, other: _Item, entry: Entry) -> bool:
    """Whether two items hold the same; of a tensor the numbers alone count.

    Raises:
        DcpctlError: one of them cannot be read.
    """
    if entry.stored.encoding == "torch":
        sums = [_sums(_opened(part, item, entry), entry) for item in (one, other)]
        if sums[0] is not None and sums[1] is not None:
            return sums[0] == sums[1]
    return one[2] == other[2] and _same_bytes(part, one, other)


def _opened(part: Part, item: _Item, entry: Entry) -> TorchItem:
    file, offset, length = item
    return open_item(
        part.storage,
        part.stored.files[file],
        offset,
        length,
        transforms=entry.stored.transforms,
        subject=quote(entry.fqn),
    )


def _sums(item: TorchItem, entry: Entry) -> dict[str, tuple[int, int]] | None:
    """Size and checksum of each record that holds content; None where some are not recorded."""
    found: dict[str, tuple[int, int]] = {}
    for name, record in item.records.items():
        if name.startswith(_DATA) or (name == _PICKLE and not isinstance(entry, TensorEntry)):
            if record.crc32 is None:
                return None
            found[name] = (record.size, record.crc32)
    return found


def _same_bytes(part: Part, one: _Item, other: _Item) -> bool:
    names = [part.stored.files[item[0]] for item in (one, other)]
    for start in range(0, one[2], _BLOCK_BYTES):
        count = min(_BLOCK_BYTES, one[2] - start)
        if part.storage.read(names[0], one[1] + start, count) != part.storage.read(
            names[1], other[1] + start, count
        ):
            return False
    return True
