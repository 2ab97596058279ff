"""A result in safetensors: an edit of such a directory gives such a directory.

Consolidated files, as Hugging Face keeps them, stay as many as they were, with their index; DCP's
shards stay one file a rank or become one for each rank of the new layout.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

from dcpctl import limits
from dcpctl.documents.parsing import parse_json
from dcpctl.errors import Refused, quote
from dcpctl.formats import dtypes
from dcpctl.formats.form import Form
from dcpctl.formats.layouts.safetensors_files import CONSOLIDATED, SHARDED
from dcpctl.formats.records import ChunkTable, StoredCheckpoint, StoredTensor
from dcpctl.formats.safetensors_emit import Piece, emit_header, emit_index
from dcpctl.model.draft import Draft, TensorDraft
from dcpctl.model.entry import TensorEntry
from dcpctl.writing.casting import check_cast
from dcpctl.writing.parts import PartDraft
from dcpctl.writing.segments import CopyItem, NewBytes, NewTensor, OutputFile, Segment
from dcpctl.writing.sources import Sources

_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """A piece of the result and where its numbers come from.

    Attributes:
        piece: what it is.
        draft: its entry.
        copied: number of the source's file and first byte there, where it stays as it is.
    """

    piece: Piece
    draft: TensorDraft
    copied: tuple[int, int] | None = None

    def segment(self, at: int) -> Segment:
        piece, source = self.piece, self.draft.source
        if self.copied is not None:
            return CopyItem(at, piece.nbytes, *self.copied, "raw", (), piece.name)
        return NewTensor(
            at,
            piece.nbytes,
            source,
            piece.dtype,
            piece.starts,
            piece.sizes,
            piece.name,
            bare=True,
        )


@dataclass(slots=True, eq=False)
class SafetensorsPlan:
    """One directory of safetensors files.

    Attributes:
        stored: the directory as a reader describes it.
        files: its files.
        index: the bytes of its index; empty where it has none.
        index_file: what that is called.
    """

    stored: StoredCheckpoint
    files: list[OutputFile] = field(default_factory=list)
    index: bytes = b""
    index_file: str = ""


def form_of(part: PartDraft) -> Form | None:
    """The form of safetensors that an edit gives, where the source has one; None for DCP.

    Consolidated files cannot say which rank holds what, so that a new layout makes DCP of them.
    """
    forms = {p.stored.form for source in part.draft.sources for p in source.parts}
    if part.draft.dcp or len(forms) != 1 or not forms <= {CONSOLIDATED, SHARDED}:
        return None
    if not all(isinstance(entry, TensorDraft) for entry in part.draft.entries.values()):
        return None
    (form,) = forms
    return None if not form.placed and part.draft.world_size is not None else form


def plan_safetensors(part: PartDraft, sources: Sources, form: Form) -> SafetensorsPlan:
    """Plan the files of one directory; reads the source's index and no tensor.

    Raises:
        Refused: a dtype that safetensors cannot hold, a lossy cast.
        LimitExceeded, MalformedMetadata: the source's index.
    """
    items = _items(part.draft, sources, form)
    stored = StoredCheckpoint(form, files=sorted(items))
    made = SafetensorsPlan(stored)
    fields = part.draft.fields if part.draft.fields is not None else _fields(part.draft)
    metadata = {key: value for key, value in fields.items() if isinstance(value, str)}
    chunks: dict[str, list[tuple[Piece, int, int]]] = defaultdict(list)
    for number, name in enumerate(stored.files):
        # Wider dtypes first: readers take a tensor's bytes where they are, so they are aligned.
        ordered = sorted(items[name], key=lambda item: -dtypes.itemsize(item.piece.dtype))
        file, at = _file(name, ordered, metadata, sources, form)
        made.files.append(file)
        for item, offset in zip(ordered, at, strict=True):
            chunks[item.piece.name].append((item.piece, number, offset))
    for fqn, entry in part.draft.entries.items():
        assert isinstance(entry, TensorDraft)
        stored.entries[fqn] = _stored(entry, chunks[fqn])
    if all(len({file for _, file, _ in pieces}) == 1 for pieces in chunks.values()):
        _index(part, made, chunks, needed=not form.placed and len(made.files) > 1)
    return made


def _fields(draft: Draft) -> Mapping[str, object]:
    return draft.sources[0].parts[0].stored.fields


def _items(draft: Draft, sources: Sources, form: Form) -> dict[str, list[_Item]]:
    """File name -> what is in it."""
    names = _Names(sources)
    found: dict[str, list[_Item]] = defaultdict(list)
    for entry in draft.entries.values():
        assert isinstance(entry, TensorDraft)
        dtype = entry.source.dtype
        if dtype is not None and entry.dtype != dtype:
            check_cast(dtype, entry.dtype, quote(entry.fqn))
        if entry.source.entry is not None:
            entry.source.entry.check_size()
        if entry.grid is not None and form == SHARDED:
            rows = zip(entry.grid.offsets, entry.grid.sizes, entry.grid.rank, strict=True)
            for offsets, sizes, rank in rows:
                name = f"shard-{int(rank) + 1:05}-model-00001-of-00001.safetensors"
                found[name].append(_Item(_piece(entry, offsets, sizes), entry))
            continue
        behind = entry.source.entry or _before(draft, entry)
        first = sources.first_file(behind)
        for chunk in behind.chunks:
            copied = (chunk.file + first, chunk.offset) if _stays(entry) else None
            name = names.of(chunk.file + first)
            found[name].append(_Item(_piece(entry, chunk.offsets, chunk.sizes), entry, copied))
    return found


def _stays(entry: TensorDraft) -> bool:
    source = entry.source.entry
    return source is not None and entry.dtype == source.dtype and source.stored.encoding == "raw"


def _before(draft: Draft, entry: TensorDraft) -> TensorEntry:
    """What stood in the place of a tensor that is filled with one number."""
    for source in draft.sources:
        known = source.entries.get(entry.fqn)
        if isinstance(known, TensorEntry) and known.shape == entry.shape:
            return known
    raise Refused(
        f"{quote(entry.fqn)} is new, and nothing says which safetensors file it belongs to",
        hint="--to dcp writes a DCP checkpoint instead",
    )


def _piece(entry: TensorDraft, offsets: object, sizes: object) -> Piece:
    starts = tuple(int(number) for number in np.asarray(offsets))
    return Piece(entry.fqn, entry.dtype, starts, tuple(int(n) for n in np.asarray(sizes)))


class _Names:
    """Names of the result's files: the source's, told apart where several sources share one."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._given: dict[int, str] = {}

    def of(self, number: int) -> str:
        if number not in self._given:
            path = PurePath(self._sources.files[number].name)
            name, count = path.name, 1
            while name in self._given.values():
                count += 1
                name = f"{path.stem}-{count}{path.suffix}"
            self._given[number] = name
        return self._given[number]


def _file(
    name: str,
    items: list[_Item],
    metadata: dict[str, str],
    sources: Sources,
    form: Form,
) -> tuple[OutputFile, list[int]]:
    """One file, and the first byte of each of its tensors; the source's own where all is in it."""
    whole = _whole(items, sources)
    if whole is not None:
        source = sources.files[whole]
        size = sources.check_whole(whole)
        segments: tuple[Segment, ...] = (CopyItem(0, size, whole, 0, "raw", (), name),)
        at = [item.copied[1] for item in items if item.copied is not None]
        return OutputFile(name, size, source.path, whole, segments), at
    header = emit_header([item.piece for item in items], metadata, sharded=form == SHARDED)
    parts: list[Segment] = [NewBytes(0, header, name)]
    position, at = len(header), []
    for item in items:
        at.append(position)
        if item.piece.nbytes:
            parts.append(item.segment(position))
        position += item.piece.nbytes
    return OutputFile(name, position, None, -1, parts), at


def _whole(items: list[_Item], sources: Sources) -> int | None:
    """The source's file whose tensors these are, all of them and under their own names."""
    numbers = {item.copied[0] for item in items if item.copied is not None}
    kept = all(
        item.copied is not None
        and item.draft.source.entry is not None
        and item.draft.source.entry.stored.fqn == item.piece.name
        for item in items
    )
    if len(numbers) != 1 or not kept:
        return None
    (number,) = numbers
    return number if sources.files[number].shard.items == len(items) else None


def _stored(entry: TensorDraft, pieces: list[tuple[Piece, int, int]]) -> StoredTensor:
    dims = len(entry.shape)
    count = len(pieces)
    chunks = ChunkTable(
        np.array([piece.starts for piece, _, _ in pieces], dtype=np.int64).reshape(count, dims),
        np.array([piece.sizes for piece, _, _ in pieces], dtype=np.int64).reshape(count, dims),
        np.array([file for _, file, _ in pieces], dtype=np.int32),
        np.array([at for _, _, at in pieces], dtype=np.int64),
        np.array([piece.nbytes for piece, _, _ in pieces], dtype=np.int64),
    )
    return StoredTensor(entry.fqn, entry.shape, entry.dtype, chunks, encoding="raw")


def _index(
    part: PartDraft,
    made: SafetensorsPlan,
    chunks: dict[str, list[tuple[Piece, int, int]]],
    *,
    needed: bool,
) -> None:
    """The index of tensors that lie in one file each, where the source has one or it is needed."""
    source = part.source
    had = source is not None and source.stored.metadata_file.endswith(".json")
    if not had and not needed:
        return
    metadata: dict[str, object] = {}
    made.index_file = _INDEX
    if source is not None and had:
        made.index_file = source.stored.metadata_file
        data = source.storage.read_all(made.index_file, limits.SAFETENSORS_HEADER_BYTES)
        said = parse_json(data, quote(made.index_file)).get("metadata")
        metadata = dict(said) if isinstance(said, dict) else {}
    files = {fqn: made.stored.files[pieces[0][1]] for fqn, pieces in chunks.items()}
    total = sum(piece.nbytes for pieces in chunks.values() for piece, _, _ in pieces)
    made.index = emit_index(files, total, metadata)
