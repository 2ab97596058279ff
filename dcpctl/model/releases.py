"""Which torch releases write and read a form of metadata; facts of torch's own sources.

Measured by loading checkpoints of each release with others: a class that moved or grew makes the
unpickling of `.metadata` fail, whatever else it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dcpctl.errors import UsageError, quote
from dcpctl.formats.records import StoredCheckpoint, StoredTensor
from dcpctl.model.optimizer.catalogue import catalogue, version_key

_RELEASE = re.compile(r"\d+\.\d+(?:\.\d+)?(?:\D.*)?")
#: Top-level packages that any torch installation has.
COMMON_PACKAGES = frozenset(
    ["torch", "builtins", "__builtin__", "collections", "pathlib", "_codecs"]
)

_OLD_CHECKPOINT = "torch.distributed._shard.checkpoint."
_NEW_CHECKPOINT = "torch.distributed.checkpoint."
_NEW_PROPERTIES = "torch.distributed.checkpoint.metadata.TensorProperties"
_FSSPEC = "torch.distributed.checkpoint._fsspec_filesystem._StorageInfo"
_STORAGE_META = "torch.distributed.checkpoint.metadata.StorageMeta"

#: dtype -> first release whose DCP saves and loads it.
_FIRST_WITH_DTYPE = {
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2"), "2.2"),
    **dict.fromkeys(("float8_e4m3fnuz", "float8_e5m2fnuz"), "2.2"),
    **dict.fromkeys(("uint16", "uint32", "uint64"), "2.6"),
    "float8_e8m0fnu": "2.7",
    "float4_e2m1fn_x2": "2.8",
}


@dataclass(frozen=True, slots=True)
class ReleaseForm:
    """A form of `.metadata`.

    Attributes:
        releases: the releases that write it, in words.
        last: the last of them; None for the newest form, and for what is as good.
        added_since: what the next forms added, in words.
    """

    releases: str
    last: str | None
    added_since: str

    def superseded_for(self, target: str | None) -> bool:
        """Whether a target release writes a newer form; without target, whether any does."""
        if self.last is None:
            return False
        return target is None or version_key(target)[:2] > version_key(self.last)[:2]

    def written_by(self, target: str) -> bool:
        """Whether a release writes this form, or one that is as good."""
        first = version_key(self.releases.split()[0])
        return version_key(target)[:2] >= first and not self.superseded_for(target)


_1_13 = ReleaseForm(
    "1.13", "1.13", "planner data, and other module paths that it cannot be read by"
)
_2_0 = ReleaseForm(
    "2.0 to 2.2", "2.2", "TensorProperties of DCP's own (2.3) and storage_meta (2.4)"
)
_2_3 = ReleaseForm("2.3", "2.3", "storage_meta and flattened param groups (2.4)")
_2_4 = ReleaseForm("2.4 to 2.6", "2.6", "storage_meta.modules and transform_descriptors (2.7)")
_2_7 = ReleaseForm("2.7 to 2.8", "2.8", "version (2.9)")
# 2.15 adds strides, which it does without and no older release can read: nothing is out of date.
_2_9 = ReleaseForm("2.9 to 2.14", None, "")
_2_15 = ReleaseForm("2.15", None, "")


#: Field of the metadata -> first release that writes it.
_FIRST_WITH_FIELD = {"planner_data": "2.0", "storage_meta": "2.4", "version": "2.9"}


def check_release(text: str) -> None:
    """Refuse what is no torch release that dcpctl has looked at, such as `2.99`.

    Any patch of a known minor release is one: `2.13`, `2.13.7`, `2.13.0+cu128`.

    Raises:
        UsageError: it is none; the hint says which are.
    """
    known = [version_key(release)[:2] for release in catalogue().releases]
    if not _RELEASE.fullmatch(text) or version_key(text)[:2] not in known:
        first, last = (".".join(map(str, known[end])) for end in (0, -1))
        raise UsageError(
            f"{quote(text)} is no torch release that dcpctl knows",
            hint=f"it knows {first} to {last}, so 2.13 for example",
        )


def fields_of(target: str | None) -> tuple[str, ...]:
    """Return the fields of the metadata that a release writes; all without a target."""
    return tuple(
        name
        for name, first in _FIRST_WITH_FIELD.items()
        if target is None or version_key(target)[:2] >= version_key(first)
    )


def form_of(stored: StoredCheckpoint) -> ReleaseForm | None:
    """Tell the form of a checkpoint's metadata; None for safetensors without `.metadata`."""
    if not stored.form.pickled:
        return None
    names = stored.globals
    if any(name.startswith(_OLD_CHECKPOINT) for name in names):
        return _1_13
    fields = max((_pickled_fields(stored)), default=0)
    if fields > 5:
        return _2_15
    if stored.fields.get("version") is not None:
        return _2_9
    meta = stored.fields.get("storage_meta")
    if meta is not None:
        return _2_7 if "modules" in getattr(meta, "fields", ()) else _2_4
    return _2_3 if _NEW_PROPERTIES in names else _2_0


def obstacles(stored: StoredCheckpoint, target: str) -> Iterator[str]:
    """Yield why a torch release cannot load a checkpoint, a clause each.

    Args:
        stored: the metadata.
        target: the release.
    """
    yield from form_obstacles(stored, target)
    found = {e.dtype for e in stored.entries.values() if isinstance(e, StoredTensor)}
    for dtype, first in dtypes_unknown_to(target, found):
        yield f"its DCP knows {dtype} from {first} on"


def form_obstacles(stored: StoredCheckpoint, target: str) -> Iterator[str]:
    """Yield why a torch release cannot load a checkpoint in the form that it has, a clause each."""
    release = version_key(target)[:2]
    if stored.form.pickled:
        yield from _pickle_obstacles(stored, release)
    elif stored.form.read_from is not None and release < stored.form.read_from:
        first = ".".join(map(str, stored.form.read_from))
        yield f"it reads {stored.form.title} from {first} on"


def dtypes_unknown_to(target: str, dtypes: Iterable[str]) -> list[tuple[str, str]]:
    """Return the dtypes that a release's DCP cannot load, each with the first release that can."""
    release = version_key(target)[:2]
    firsts = [(dtype, _FIRST_WITH_DTYPE.get(dtype)) for dtype in sorted(set(dtypes))]
    return [(d, first) for d, first in firsts if first and release < version_key(first)]


def _pickle_obstacles(stored: StoredCheckpoint, release: tuple[int, ...]) -> Iterator[str]:
    names = stored.globals
    if any(name.startswith(_OLD_CHECKPOINT) for name in names) and release >= (2, 0):
        yield f"{quote(_OLD_CHECKPOINT + 'metadata')} is the module path of 1.13, moved in 2.0"
    if any(name.startswith(_NEW_CHECKPOINT) for name in names) and release < (2, 0):
        yield f"{quote(_NEW_CHECKPOINT + 'metadata')} exists from 2.0 on"
    if _FSSPEC in names and release not in ((2, 1), (2, 2)):
        yield f"{quote(_FSSPEC)}, which FsspecWriter of 2.1 and 2.2 wrote, exists in these only"
    if _NEW_PROPERTIES in names and (2, 0) <= release < (2, 3):
        yield f"{quote(_NEW_PROPERTIES)} exists from 2.3 on"
    if _STORAGE_META in names and (2, 0) <= release < (2, 4):
        yield f"{quote(_STORAGE_META)} exists from 2.4 on"
    if max(_pickled_fields(stored), default=0) > 5 and release < (2, 15):
        yield "TensorProperties has 6 fields as from 2.15 on, and it takes 5"
    if release < (2, 7) and any(entry.transforms for entry in stored.entries.values()):
        yield "it knows compressed storage items (stream transforms) from 2.7 on"


def _pickled_fields(stored: StoredCheckpoint) -> set[int]:
    entries = stored.entries.values()
    return {entry.pickled_fields for entry in entries if isinstance(entry, StoredTensor)}
