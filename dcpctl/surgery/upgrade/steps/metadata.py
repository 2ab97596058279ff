"""Step `metadata`: write the metadata anew where the target cannot read them or misses some."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dcpctl.errors import Refused
from dcpctl.formats.pickles.standins import Record
from dcpctl.formats.records import StoredCheckpoint
from dcpctl.model import releases
from dcpctl.model.draft import BytesDraft, Draft, EntryDraft, Grid, TensorDraft
from dcpctl.model.entry import TensorEntry
from dcpctl.model.fqn import Path
from dcpctl.model.source import NewValue
from dcpctl.surgery.upgrade.engine import Context, Done, step, stored_parts

_STORAGE_META = "torch.distributed.checkpoint.metadata.StorageMeta"
#: What StorageMeta holds (2.4; `modules` since 2.7), with torch's own defaults. Its save_id, which
#: torch makes at random, stays None: the same command shall give the same bytes.
_META_FIELDS: Mapping[str, object] = {
    "checkpoint_id": None,
    "save_id": None,
    "load_id": None,
    "modules": [],
}
#: `Metadata.version` since 2.9; no release reads it.
_VERSION = "1.0.0"
_PYTHON_313 = "pathlib._local."
_OF_WINDOWS = "WindowsPath"
#: First release that reads compressed items.
_WITH_TRANSFORMS = (2, 7)


@step("metadata", 90)
def metadata(draft: Draft, context: Context) -> Done:
    """Choose the form that the target reads, and fill in the fields that it writes.

    Raises:
        Refused: the target's DCP does not know a dtype.
    """
    _refuse_dtypes(draft, context)
    form = None if context.flattens else ".".join(map(str, context.release))
    draft = draft if draft.form == form else dataclasses.replace(draft, form=form)
    parts = list(stored_parts(draft))
    pickled = [part for part in parts if part.form.pickled]
    reasons = list(dict.fromkeys(reason for part in parts for reason in _reasons(part, context)))
    # safetensors have neither; where another step has them written as DCP, these come with it.
    fields, added = _fields(draft, pickled, context)
    if added:
        draft = dataclasses.replace(draft, fields=fields)
    if draft.planner_data is None and "planner_data" in releases.fields_of(context.torch):
        paths: dict[str, Path] = {fqn: (fqn,) for fqn in draft.entries}
        draft = draft.with_entries(draft.entries.values(), paths)
        added.append("planner_data")
    if added and pickled:
        reasons.append(f"{', '.join(added)} filled in")
    draft, opened = _decompressed(draft, context)
    if opened:
        reasons.append(f"{opened:,} entries decompressed")
    if reasons:
        draft = dataclasses.replace(draft, rewritten=True, dcp=True)
    return Done(draft, len(reasons), "; ".join(reasons))


def _refuse_dtypes(draft: Draft, context: Context) -> None:
    found = {e.dtype for e in draft.entries.values() if isinstance(e, TensorDraft)}
    unknown = releases.dtypes_unknown_to(context.torch, found)
    if unknown:
        dtype, first = unknown[0]
        raise Refused(
            f"torch {context.torch} knows {dtype} from {first} on",
            hint=f"cast or drop its tensors first, or upgrade to torch {first}",
        )


def _reasons(part: StoredCheckpoint, context: Context) -> Iterator[str]:
    """Why one directory's metadata are to be written anew, a clause each."""
    for obstacle in releases.form_obstacles(part, context.torch):
        yield f"torch {context.torch} could not load it ({obstacle})"
    if part.form.unread:
        yield part.form.unread
    names = part.globals
    if any(name.startswith(_PYTHON_313) for name in names):
        yield "Python 3.12 and older cannot load its 'pathlib._local'"
    if any(name.endswith(_OF_WINDOWS) for name in names):
        yield "its WindowsPath loads on Windows only"
    foreign = {name.partition(".")[0] for name in names} - releases.COMMON_PACKAGES
    if foreign:
        yield f"it loads only where {', '.join(sorted(foreign))} is installed"
    form = releases.form_of(part)
    if form is not None and form.superseded_for(context.torch):
        yield f"rebuilt from the form of torch {form.releases}"


def _fields(
    draft: Draft, pickled: list[StoredCheckpoint], context: Context
) -> tuple[dict[str, Any], list[str]]:
    """The metadata's further fields, completed; and the names of those that were missing."""
    wanted = releases.fields_of(context.torch)
    if "storage_meta" not in wanted:
        return {}, []
    known_fields = pickled[0].fields if pickled else {}
    fields = dict(draft.fields if draft.fields is not None else known_fields)
    added = []
    meta = fields.get("storage_meta")
    known = dict(meta.fields) if isinstance(meta, Record) else {}
    expected = [key for key in _META_FIELDS if key != "modules" or context.release >= (2, 7)]
    if meta is None or (isinstance(meta, Record) and any(key not in known for key in expected)):
        completed = {key: known.pop(key, _META_FIELDS[key]) for key in expected}
        fields["storage_meta"] = Record(_STORAGE_META, {**completed, **known})
        added.append("storage_meta")
    if "version" in wanted and fields.get("version") is None:
        fields["version"] = _VERSION
        added.append("version")
    return fields, added


def _decompressed(draft: Draft, context: Context) -> tuple[Draft, int]:
    """Have compressed items written plainly where the target cannot read them."""
    if context.release >= _WITH_TRANSFORMS:
        return draft, 0
    changed = 0
    entries: list[EntryDraft] = []
    for entry in draft.entries.values():
        source = entry.source.entry
        if source is not None and source.stored.transforms:
            if isinstance(entry, BytesDraft):
                entry = BytesDraft(entry.fqn, NewValue(entry.value), entry.rank)
            elif entry.grid is None and entry.source.entry is not None:
                entry = dataclasses.replace(entry, grid=_own_grid(draft, entry.source.entry))
            changed += 1
        entries.append(entry)
    return (draft.with_entries(entries, draft.planner_data) if changed else draft), changed


def _own_grid(draft: Draft, entry: TensorEntry) -> Grid:
    """A tensor's own chunks, each once, with the ranks of their files."""
    chunks = entry.chunks
    _, first = np.unique(chunks.offsets, axis=0, return_index=True)
    rows = np.sort(first)
    source = next((s for s in draft.sources if s.entries.get(entry.fqn) is entry), None)
    files = source.files if source is not None else ()
    rank = [(files[f].rank or 0) if files else 0 for f in chunks.file[rows].tolist()]
    return Grid(chunks.offsets[rows], chunks.sizes[rows], np.array(rank, dtype=np.int64))
