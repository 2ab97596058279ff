"""From a draft to a plan: every file, item, offset and size of the result, before it is made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dcpctl.errors import Refused, quote
from dcpctl.formats.metadata_emit import emit_metadata
from dcpctl.formats.records import StoredCheckpoint
from dcpctl.model.draft import Draft
from dcpctl.writing.counts import Counts, count
from dcpctl.writing.kept import DEAD_SHARE, place_kept
from dcpctl.writing.layout import Layout, lay_out
from dcpctl.writing.names import Names
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.segments import NewBytes, OutputFile
from dcpctl.writing.sources import Sources, Stamp
from dcpctl.writing.unfinished import stale_files


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What the writer will do.

    Attributes:
        draft: what is to be written.
        destination: the directory that it becomes.
        sources: the files that it is made of.
        stamps: what those looked like when the plan was made.
        files: shard files of the result.
        stored: the result as its metadata describe it.
        metadata: the bytes of its `.metadata`.
        counts: the plan in numbers.
        in_place: the destination is the source.
    """

    draft: Draft
    destination: Path
    sources: Sources
    stamps: dict[int, Stamp]
    files: tuple[OutputFile, ...]
    stored: StoredCheckpoint
    metadata: bytes
    counts: Counts
    in_place: bool = False

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that two runs share if they would write the same from the same."""
        summed = hashlib.sha256(self.metadata)
        for part in self._parts():
            summed.update(repr(part).encode())
        return summed.hexdigest()[:32]

    def _parts(self) -> Iterator[object]:
        yield sorted(self.stamps.items())
        yield [os.fspath(file.storage.root / file.name) for file in self.sources.files]
        for file in self.files:
            yield file.name, file.size, file.link, file.source
            if file.link is not None:
                continue
            for segment in file.segments:
                if isinstance(segment, NewBytes):
                    yield segment.at, segment.data
                    continue
                source = segment.source
                yield (
                    segment.at,
                    segment.length,
                    source if isinstance(source, int) else getattr(source, "fqn", source),
                    getattr(segment, "offset", None),
                    getattr(segment, "starts", None),
                )


def plan(
    draft: Draft, destination: str | os.PathLike[str], options: WriteOptions | None = None
) -> Plan:
    """Plan how a draft becomes a directory; reads no tensor and writes nothing.

    Args:
        draft: the result; its sources are open.
        destination: the directory to make. With `options.in_place`, the source.
        options: only `in_place` matters here.

    Raises:
        Refused: an edit in place that would rewrite a tensor, or of a checkpoint of another form
            than a `.metadata` beside its shard files; an object that cannot be pickled anew.
        MalformedItem, MissingFile, TruncatedFile: the source lacks bytes that the result needs.
    """
    in_place = options is not None and options.in_place
    target = Path(destination)
    if in_place:
        _check_in_place(draft, target)
    sources = Sources.of(draft)
    stamps = sources.stamps()
    layout = lay_out(draft, sources, in_place=in_place)
    names = Names(_names_in(draft) if in_place else None)
    dead = 0.0 if draft.tidy else DEAD_SHARE
    place_kept(layout.staying, sources, names, layout.out, all_whole=in_place, dead_share=dead)
    if in_place:
        layout.join_new()
    for rank in sorted(layout.new):
        name = f"__{rank}_0.distcp" if draft.world_size is not None else names.new(rank)
        layout.out.files.append(layout.new[rank].build(name, len(layout.out.files)))
    stored = _describe(draft, layout)
    metadata = emit_metadata(stored, form=draft.form)
    files = tuple(layout.out.files)
    counts = count(draft, files, len(metadata))
    return Plan(draft, target, sources, stamps, files, stored, metadata, counts, in_place)


def _describe(draft: Draft, layout: Layout) -> StoredCheckpoint:
    planner = draft.planner_data
    return StoredCheckpoint(
        format="dcp",
        entries={fqn: made.stored() for fqn, made in layout.made.items()},
        files=[file.name for file in layout.out.files],
        planner_data=None if planner is None else dict(planner),
        fields=_fields(draft),
    )


def _fields(draft: Draft) -> dict[str, object]:
    """The draft's further attributes of `.metadata`, else the first source's that has any."""
    if draft.fields is not None:
        return dict(draft.fields)
    for source in draft.sources:
        for part in source.parts:
            if part.stored.format.startswith("dcp"):
                return dict(part.stored.fields)
    return {}


def _names_in(draft: Draft) -> set[str]:
    """Names that are taken in the directory; not by what an interrupted edit has left there."""
    storage = draft.sources[0].parts[0].storage
    return {*storage.names(), *storage.odd()} - stale_files(storage.root)


def _check_in_place(draft: Draft, target: Path) -> None:
    if len(draft.sources) != 1 or draft.sources[0].path.resolve() != target.resolve():
        raise Refused(f"an edit in place takes one checkpoint and no destination: {quote(target)}")
    parts = draft.sources[0].parts
    if len(parts) > 1 or parts[0].name or parts[0].stored.metadata_file != ".metadata":
        raise Refused(
            f"{quote(target)} is no directory with a .metadata of its own; "
            "in place, nothing else can be edited",
            hint="write a new directory instead",
        )
