"""Which torch releases could have written a checkpoint, told by what the metadata holds.

DCP records no release. What it does leave is evidence: classes moved between modules, fields
appeared, a pickled tuple grew. Each piece bounds the release from one side, and all of them
together leave a span. Sources: torch/distributed/checkpoint/{metadata,filesystem,hf_storage}.py of
1.13.1 to 2.15.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dcpctl.formats.pickles.standins import Record
from dcpctl.formats.records import StoredCheckpoint, StoredTensor

Release = tuple[int, int]

OLDEST: Release = (1, 13)
#: The newest release whose form is known; a newer one may write the same.
NEWEST: Release = (2, 15)

_FIRST_FORM = "torch.distributed._shard.checkpoint."
_OLD_PROPERTIES = "torch.distributed._shard.sharded_tensor.metadata.TensorProperties"
_NEW_PROPERTIES = "torch.distributed.checkpoint.metadata.TensorProperties"
_OWN_STORAGE_INFO = "torch.distributed.checkpoint._fsspec_filesystem._StorageInfo"
_DTYPES: tuple[tuple[str, Release], ...] = (
    ("float8_", (2, 2)),
    ("uint16", (2, 6)),
    ("uint32", (2, 6)),
    ("uint64", (2, 6)),
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that a checkpoint shows, and the releases that it leaves possible.

    Attributes:
        shows: what there is, or is not.
        first: the oldest release that writes so.
        last: the newest; None if the newest known still does.
    """

    shows: str
    first: Release
    last: Release | None


@dataclass(frozen=True, slots=True)
class Releases:
    """The releases that fit all evidence.

    Attributes:
        first: the oldest; None where nothing of torch's is found (Hugging Face safetensors).
        last: the newest.
        evidence: what it rests on.
        foreign: it is of a form that no torch release writes, nor anybody but who owns it.
    """

    first: Release | None
    last: Release | None
    evidence: tuple[Evidence, ...]
    foreign: bool = False

    @property
    def contradictory(self) -> bool:
        """Whether no single release fits: a framework's own writer, or an edited checkpoint."""
        return self.first is not None and self.last is not None and self.first > self.last

    @property
    def words(self) -> str:
        """`torch 2.9 to 2.14`, `torch 1.13`, `torch 2.15 or newer`, or why it cannot be told."""
        if self.first is None or self.last is None:
            return "no torch release" if self.foreign else "any writer of safetensors"
        if self.contradictory:
            return "no torch release writes this mixture"
        if self.first == self.last:
            newer = " or newer" if self.first == NEWEST else ""
            return f"torch {_text(self.first)}{newer}"
        return f"torch {_text(self.first)} to {_text(self.last)}"


def tell_releases(parts: list[StoredCheckpoint]) -> Releases:
    """Tell the releases that could have written all of these directories."""
    evidence = tuple(dict.fromkeys(piece for part in parts for piece in _evidence(part)))
    if not any(part.form.pickled or part.form.first for part in parts):
        return Releases(None, None, evidence, not all(part.form.safetensors for part in parts))
    first = max((piece.first for piece in evidence), default=OLDEST)
    last = min((piece.last for piece in evidence if piece.last), default=NEWEST)
    return Releases(first, last, evidence)


def _evidence(stored: StoredCheckpoint) -> Iterator[Evidence]:
    form = stored.form
    if form.first is not None:
        yield Evidence(form.shows, form.first, None)
    if form.safetensors and not form.pickled:
        return
    yield from _of_modules(stored.globals)
    yield from _of_fields(stored.fields, with_modules=bool(stored.globals))
    yield from _of_tensors(stored)


def _of_modules(named: frozenset[str]) -> Iterator[Evidence]:
    if any(name.startswith(_FIRST_FORM) for name in named):
        yield Evidence(f"classes of {_FIRST_FORM[:-1]}", (1, 13), (1, 13))
    elif named:
        yield Evidence("classes of torch.distributed.checkpoint", (2, 0), None)
    if _OLD_PROPERTIES in named:
        yield Evidence("TensorProperties of sharded_tensor.metadata", OLDEST, (2, 2))
    if _NEW_PROPERTIES in named:
        yield Evidence("TensorProperties of checkpoint.metadata", (2, 3), None)
    if _OWN_STORAGE_INFO in named:
        yield Evidence("_StorageInfo of FsspecWriter's own", (2, 1), (2, 2))


def _of_fields(fields: dict[str, object], *, with_modules: bool) -> Iterator[Evidence]:
    if not with_modules:
        return
    if "storage_meta" in fields:
        yield Evidence("field storage_meta", (2, 4), None)
    else:
        yield Evidence("no field storage_meta", OLDEST, (2, 3))
    storage = fields.get("storage_meta")
    if isinstance(storage, Record):
        if "modules" in storage.fields:
            yield Evidence("StorageMeta.modules", (2, 7), None)
        else:
            yield Evidence("no StorageMeta.modules", OLDEST, (2, 6))
    if "version" in fields:
        yield Evidence("field version", (2, 9), None)
    else:
        yield Evidence("no field version", OLDEST, (2, 8))


def _of_tensors(stored: StoredCheckpoint) -> Iterator[Evidence]:
    tensors = [entry for entry in stored.entries.values() if isinstance(entry, StoredTensor)]
    counts = {entry.pickled_fields for entry in tensors}
    if 6 in counts:
        yield Evidence("strides in TensorProperties", (2, 15), None)
    if 5 in counts:
        yield Evidence("no strides in TensorProperties", OLDEST, (2, 14))
    if any(entry.transforms for entry in tensors):
        yield Evidence("stream transforms", (2, 7), None)
    dtypes = {entry.dtype for entry in tensors}
    for prefix, first in _DTYPES:
        if any(dtype.startswith(prefix) for dtype in dtypes):
            yield Evidence(f"dtype {prefix.rstrip('_')}", first, None)


def _text(release: Release) -> str:
    return f"{release[0]}.{release[1]}"
