"""From a draft to a plan: every file, item, offset and size of the result, before it is made."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcpctl.errors import Refused, listed, printable, quote
from dcpctl.formats.form import Form
from dcpctl.formats.layouts.safetensors_files import CONSOLIDATED
from dcpctl.formats.metadata import DCP
from dcpctl.formats.metadata_emit import emit_metadata
from dcpctl.formats.records import StoredCheckpoint
from dcpctl.model.copies import compare_copies
from dcpctl.model.draft import Draft
from dcpctl.model.packed import packed_or_none, survey_packed
from dcpctl.writing.counts import Counts, count
from dcpctl.writing.layout import Layout, lay_out
from dcpctl.writing.names import Names
from dcpctl.writing.old_descriptions import kept_fields, old_descriptions
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.parts import PartDraft, part_drafts
from dcpctl.writing.reuse import DEAD_SHARE, place_kept
from dcpctl.writing.safetensors_plan import form_of, plan_safetensors
from dcpctl.writing.segments import CopyItem, NewBytes, NewTensor, OutputFile
from dcpctl.writing.side_files import SideFile, SideFiles, beside
from dcpctl.writing.sources import Sources, Stamp
from dcpctl.writing.unfinished import stale_files


@dataclass(frozen=True, slots=True, eq=False)
class PartPlan:
    """One directory of the result that has metadata of its own.

    Attributes:
        name: path relative to the destination, with slashes; empty for the destination itself.
        draft: its entries.
        stored: the directory as its metadata describe it.
        metadata: the bytes of its `.metadata`, or of the index of safetensors files.
        stays: in place, nothing in it changes, so that it is left alone.
    """

    name: str
    draft: Draft
    stored: StoredCheckpoint
    metadata: bytes
    stays: bool = False
    metadata_file: str = ".metadata"

    def located(self, name: str) -> str:
        """A file name of this part, relative to the destination."""
        return f"{self.name}/{name}" if self.name else name


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What the writer will do.

    Attributes:
        draft: what is to be written.
        destination: the directory that it becomes.
        sources: the files that it is made of.
        stamps: what those looked like when the plan was made.
        files: shard files of the result by their paths in it, then the files beside them.
        parts: the directories of the result that have metadata.
        beside: what lies beside the source's shards.
        counts: the plan in numbers.
        warnings: sentences on what lies beside the shards and is not as the result would have it.
        in_place: the destination is the source.
    """

    draft: Draft
    destination: Path
    sources: Sources
    stamps: dict[int, Stamp]
    files: tuple[OutputFile, ...]
    parts: tuple[PartPlan, ...]
    beside: SideFiles
    counts: Counts
    warnings: tuple[str, ...] = ()
    in_place: bool = False

    @property
    def directories(self) -> tuple[str, ...]:
        """Paths of the directories below the destination, parents first."""
        named = [part.name for part in self.parts if part.name]
        above = [
            "/".join(name.split("/")[:depth])
            for name in named
            for depth in range(1, name.count("/") + 2)
        ]
        return tuple(dict.fromkeys([*above, *self.beside.directories]))

    @property
    def metadata_bytes(self) -> int:
        """Bytes of all `.metadata` files."""
        return sum(len(part.metadata) for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that two runs share if they would write the same from the same."""
        summed = hashlib.sha256()
        for made in self.parts:
            summed.update(made.metadata)
        for part in self._contents():
            summed.update(repr(part).encode())
        return summed.hexdigest()[:32]

    def _contents(self) -> Iterator[object]:
        yield [part.name for part in self.parts], self.directories
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
                yield (
                    segment.at,
                    segment.length,
                    _told(segment),
                    getattr(segment, "offset", None),
                    getattr(segment, "starts", None),
                )


def _told(segment: CopyItem | NewTensor) -> object:
    """Where a segment comes from, as a later run of the same has it."""
    if isinstance(segment, CopyItem):
        return segment.source
    entry = segment.source.entry
    return segment.source if entry is None else entry.fqn


def plan(
    draft: Draft, destination: str | os.PathLike[str], options: WriteOptions | None = None
) -> Plan:
    """Plan how a draft becomes a directory; reads no tensor and writes nothing.

    Args:
        draft: the result; its sources are open.
        destination: the directory to make. With `options.in_place`, the source.
        options: only `in_place`, `side_files` and `keep_rank` matter here.

    Raises:
        Refused: an edit in place that would rewrite a tensor, or of a checkpoint of another form
            than a `.metadata` beside its shard files; an object that cannot be pickled anew;
            copies of the ranks that differ, of which nobody chose one.
        MalformedItem, MissingFile, TruncatedFile: the source lacks bytes that the result needs.
    """
    options = options or WriteOptions()
    _refuse_ambiguous(draft)
    in_place = options.in_place
    target = Path(destination)
    if options.keep_rank is None:
        _check_copies(draft)
    if in_place:
        _check_in_place(draft, target)
        target = draft.sources[0].directory
    side = beside(draft.sources, draft.beside) if options.side_files else SideFiles()
    carried = () if in_place else tuple(side.files.values())
    sources = Sources.of(draft, carried)
    stamps = sources.stamps()
    files: list[OutputFile] = []
    parts = []
    draft = dataclasses.replace(draft, dcp=True) if options.to == "dcp" else draft
    for part in part_drafts(draft):
        made, its_files = _plan_part(part, sources, in_place=in_place)
        parts.append(made)
        files += its_files
    _check_packed(files)
    sources.check_there(files, stamps)
    counts = count(draft, files, sum(len(part.metadata) for part in parts), carried)
    for number, file in enumerate(carried, sources.shards):
        files.append(_whole(file, number, sources))
    return Plan(
        draft,
        target,
        sources,
        stamps,
        tuple(files),
        tuple(parts),
        side,
        counts,
        (
            *_left(side, in_place),
            *_other_form(draft, parts),
            *old_descriptions(side, draft, counts),
        ),
        in_place,
    )


def _refuse_ambiguous(draft: Draft) -> None:
    """Refuse a source that places one item twice: what is written would choose one of them."""
    for source in draft.sources:
        for part in source.parts:
            twice = list(dict.fromkeys(item.fqn for item in part.stored.duplicates))
            if twice:
                raise Refused(
                    f"{quote(part.located(part.stored.metadata_file))} has two items of one "
                    f"index (DCP112): {listed(twice)}",
                    hint="dcpctl check names both places; take the metadata from another copy",
                )


def _check_packed(files: list[OutputFile]) -> None:
    """Refuse to cut or change tensors of a subclass: what their numbers mean only it knows."""
    cut = {
        id(entry): entry
        for file in files
        for segment in file.segments
        if isinstance(segment, NewTensor)
        for entry in segment.entries
    }
    found = survey_packed(cut.values())
    packed = [entry for entry in cut.values() if entry.fqn in found and packed_or_none(entry)]
    if packed:
        named = (f"{quote(entry.fqn)} ({printable(found[entry.fqn].name)})" for entry in packed)
        many = len(packed) > 1
        raise Refused(
            f"{len(packed):,} {'tensors are' if many else 'tensor is'} of a class that only its "
            f"own package can cut or change: {listed(named, show=str)}",
            hint="keep their dtype and the ranks that they lie on, or leave them out with drop; "
            "the job that wrote them can save them in another layout",
        )


def _other_form(draft: Draft, parts: Sequence[PartPlan]) -> Iterator[str]:
    """A sentence where nobody asked for another form and the result has one."""
    forms = {part.stored.form for source in draft.sources for part in source.parts}
    if forms == {CONSOLIDATED} and not draft.dcp and parts[0].stored.form == DCP:
        yield (
            "consolidated safetensors cannot say which rank holds what, so the result is a DCP "
            "checkpoint"
        )


def _left(side: SideFiles, in_place: bool) -> Iterator[str]:
    """Sentences on what is not carried over, or not as the result is."""
    missed = [f"{quote(one.name)} ({one.why})" for one in side.left if not one.junk]
    if missed and not in_place:
        yield f"not carried over: {listed(missed, show=str)}"
    for name in side.checkpoints:
        yield f"{quote(name)} is a checkpoint of its own, which the edit leaves as it is"


def _plan_part(
    part: PartDraft, sources: Sources, *, in_place: bool
) -> tuple[PartPlan, list[OutputFile]]:
    """Plan one directory; the files are named relative to the destination."""
    form = form_of(part)
    if form is not None:
        return _plan_safetensors(part, sources, form)
    draft = _with_paths(part.draft)
    layout = lay_out(draft, sources, in_place=in_place)
    names = Names(_names_in(part) if in_place else None)
    dead = 0.0 if draft.tidy else DEAD_SHARE
    taken_over = part.files if in_place else ()
    place_kept(layout.staying, sources, names, layout.out, taken_over=taken_over, dead_share=dead)
    if in_place:
        layout.join_new()
    for rank in sorted(layout.new):
        name = f"__{rank}_0.distcp" if draft.world_size is not None else names.new(rank)
        layout.out.files.append(layout.new[rank].build(name, len(layout.out.files)))
    stored = _describe(draft, layout)
    stays = in_place and part.unchanged
    made = PartPlan(part.name, draft, stored, emit_metadata(stored, form=draft.form), stays)
    files = [dataclasses.replace(file, name=made.located(file.name)) for file in layout.out.files]
    return made, files


def _plan_safetensors(
    part: PartDraft, sources: Sources, form: Form
) -> tuple[PartPlan, list[OutputFile]]:
    made = plan_safetensors(part, sources, form)
    plan_ = PartPlan(part.name, part.draft, made.stored, made.index, metadata_file=made.index_file)
    return plan_, [dataclasses.replace(f, name=plan_.located(f.name)) for f in made.files]


def _with_paths(draft: Draft) -> Draft:
    """A draft of safetensors with the object paths that torch gives a flat state dict."""
    forms = [p.stored.form for source in draft.sources for p in source.parts]
    flat = bool(forms) and all(form.safetensors and not form.pickled for form in forms)
    if not flat or draft.planner_data is not None:
        return draft
    return draft.with_entries(draft.entries.values(), {fqn: (fqn,) for fqn in draft.entries})


def _whole(file: SideFile, number: int, sources: Sources) -> OutputFile:
    """A file beside the shards, taken over as it is."""
    whole = CopyItem(0, file.size, number, 0, "none", (), file.name)
    segments = (whole,) if file.size else ()
    path = sources.files[number].path
    return OutputFile(file.name, file.size, path, number, segments, mode=file.mode)


def _describe(draft: Draft, layout: Layout) -> StoredCheckpoint:
    planner = draft.planner_data
    return StoredCheckpoint(
        form=DCP,
        entries={fqn: made.stored() for fqn, made in layout.made.items()},
        files=[file.name for file in layout.out.files],
        planner_data=None if planner is None else dict(planner),
        fields=_fields(draft),
    )


def _fields(draft: Draft) -> dict[str, object]:
    """The draft's further attributes of `.metadata`, else the first source's that has any."""
    if draft.fields is not None:
        return kept_fields(draft.fields, draft)
    for source in draft.sources:
        for part in source.parts:
            if part.stored.form.pickled:
                return kept_fields(part.stored.fields, draft)
    return {}


def _names_in(part: PartDraft) -> set[str]:
    """Names that are taken in the directory; not by what an interrupted edit has left there."""
    assert part.source is not None
    storage = part.source.storage
    return {*storage.names(), *storage.odd()} - stale_files(storage.root)


def _check_in_place(draft: Draft, target: Path) -> None:
    if len(draft.sources) != 1 or draft.sources[0].path.resolve() != target.resolve():
        raise Refused(f"an edit in place takes one checkpoint and no destination: {quote(target)}")
    other = [p for p in draft.sources[0].parts if p.stored.metadata_file != ".metadata"]
    if draft.joined or other:
        raise Refused(
            f"{quote(target)} is no directory with a .metadata of its own, nor are its parts; "
            "in place, nothing else can be edited",
            hint="write a new directory instead",
        )


def _check_copies(draft: Draft) -> None:
    """Refuse to keep one rank's copy of what the ranks have different copies of.

    Raises:
        Refused: such an entry reaches the result.
    """
    for source in draft.sources:
        copies = compare_copies(source)
        if copies is None:
            continue
        doubtful = [*(one.fqn for one in copies.differing), *(one.fqn for one in copies.unknown)]
        used = {id(read) for entry in draft.entries.values() for read in entry.reads}
        lost = [fqn for fqn in doubtful if id(source.entries[fqn]) in used]
        if lost:
            kept = next((one.kept for one in copies.differing if one.kept is not None), 0)
            raise Refused(
                f"each rank of {quote(source.path)} saved a copy of {listed(lost)}, and they "
                f"{'differ' if copies.differing else 'could not be compared'}; the result has one",
                hint=f"--keep-rank {kept} keeps one rank's copies and leaves the others'",
            )
