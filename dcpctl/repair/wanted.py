"""The storage items that a description asks for, file by file and in file order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from dcpctl.formats.records import Orphan, StoredBytes, StoredCheckpoint, StoredTensor
from dcpctl.repair.found import TENSOR, VALUE, Found

#: Rows of `Owner` that are no chunk.
BYTES, REPLICA, ORPHAN = -1, -2, -3


@dataclass(frozen=True, slots=True)
class Owner:
    """What an item is of.

    Attributes:
        fqn: the entry.
        row: number of the chunk in its chunk table; BYTES, of a bytes entry; REPLICA, a further
            copy of a chunk or bytes entry; ORPHAN, of no entry.
        number: of a replica or orphan, its number in the description's list.
    """

    fqn: str
    row: int
    number: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """An item of a description.

    Attributes:
        offset: first byte, as the description has it.
        length: bytes, as the description has them.
        owners: what it is of; several chunks without elements may share an item.
        kind: TENSOR, VALUE, or empty where the description does not say.
        dtype: of a tensor.
        sizes: of a tensor.
        transforms: stream transforms.
    """

    offset: int
    length: int
    owners: tuple[Owner, ...]
    kind: str
    dtype: str = ""
    sizes: tuple[int, ...] = ()
    transforms: tuple[str, ...] = ()

    def fits(self, found: Found) -> bool:
        """Whether an item can be this one; what cannot be read can be anything."""
        if not self.kind or found.kind not in (TENSOR, VALUE):
            return True
        if found.kind != self.kind:
            return False
        return self.kind == VALUE or (found.dtype, found.sizes) == (self.dtype, self.sizes)

    @property
    def what(self) -> str:
        """What it holds, in words."""
        return f"{self.dtype}{list(self.sizes)}" if self.kind == TENSOR else "an object"


def wanted_items(stored: StoredCheckpoint) -> list[list[Wanted]]:
    """Return the items of each file of a description, in file order."""
    made: list[dict[tuple[int, int], Wanted]] = [{} for _ in stored.files]
    for fqn, entry in stored.entries.items():
        if isinstance(entry, StoredBytes):
            if entry.file >= 0:
                item = Wanted(
                    entry.offset,
                    entry.length,
                    (Owner(fqn, BYTES),),
                    VALUE,
                    transforms=entry.transforms,
                )
                _add(made[entry.file], item)
            continue
        for row, chunk in enumerate(entry.chunks):
            if chunk.file >= 0:
                item = Wanted(
                    chunk.offset,
                    chunk.length,
                    (Owner(fqn, row),),
                    TENSOR,
                    entry.dtype,
                    chunk.sizes,
                    entry.transforms,
                )
                _add(made[chunk.file], item)
    _add_others(stored, made)
    return [sorted(items.values(), key=lambda item: item.offset) for items in made]


def _add_others(stored: StoredCheckpoint, made: list[dict[tuple[int, int], Wanted]]) -> None:
    """Add replicas, whose sizes are those of the chunk they copy, and items of no entry."""
    sizes: dict[str, dict[tuple[int, ...], tuple[int, ...]]] = defaultdict(dict)
    for replica in stored.replicas:
        entry = stored.entries.get(replica.fqn)
        if isinstance(entry, StoredTensor) and replica.fqn not in sizes:
            sizes[replica.fqn] = {chunk.offsets: chunk.sizes for chunk in entry.chunks}
    for row, others in ((REPLICA, stored.replicas), (ORPHAN, stored.orphans)):
        for number, other in enumerate(others):
            held = sizes[other.fqn].get(other.offsets or ())
            entry = stored.entries.get(other.fqn)
            kind, dtype = "", ""
            if row == REPLICA and isinstance(entry, StoredTensor) and held is not None:
                kind, dtype = TENSOR, entry.dtype
            elif row == REPLICA and isinstance(entry, StoredBytes):
                kind = VALUE
            transforms = () if entry is None else entry.transforms
            owner = Owner(other.fqn, row, number)
            item = Wanted(other.offset, other.length, (owner,), kind, dtype, held or (), transforms)
            _add(made[other.file], item)


def _add(items: dict[tuple[int, int], Wanted], item: Wanted) -> None:
    key = (item.offset, item.length)
    known = items.get(key)
    if known is None:
        items[key] = item
        return
    owners = known.owners + item.owners
    items[key] = Wanted(*key, owners, known.kind, known.dtype, known.sizes, known.transforms)


def orphan_of(stored: StoredCheckpoint, owner: Owner) -> Orphan:
    """The description's record of a replica or orphan."""
    return (stored.replicas if owner.row == REPLICA else stored.orphans)[owner.number]
