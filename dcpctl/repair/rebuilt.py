"""A checkpoint without metadata: its items matched to those of a sibling, file by file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dcpctl.errors import InputError, Refused, quote
from dcpctl.formats.archive_walk import Walk, walk_archives
from dcpctl.formats.pickles.standins import Record
from dcpctl.formats.records import StoredCheckpoint
from dcpctl.parallel import Meter, map_all
from dcpctl.repair.described import (
    add_never_written,
    is_good,
    problem_of,
    strangers,
)
from dcpctl.repair.found import Found, look
from dcpctl.repair.match import ALL, BEGIN, ENDS, NONE, Match, match_items
from dcpctl.repair.options import RepairOptions
from dcpctl.repair.survey import (
    CUT,
    DAMAGED,
    MISSING,
    OTHER,
    REBUILT,
    WHOLE,
    FileState,
    Lost,
    Survey,
    owners_of,
    placed,
)
from dcpctl.repair.wanted import Wanted, wanted_items
from dcpctl.storage.local import LocalStorage


@dataclass(frozen=True, slots=True, eq=False)
class _File:
    """A file as it was walked and matched.

    Attributes:
        walk: its archives; None if it is missing.
        found: they, looked at.
        match: how they fit.
    """

    walk: Walk | None
    found: Sequence[Found]
    match: Match


def survey_rebuilt(
    storage: LocalStorage,
    sibling: StoredCheckpoint,
    why_basis: str,
    options: RepairOptions,
) -> Survey:
    """Walk the shard files, read every item, and match them to a sibling's.

    Args:
        storage: the directory.
        sibling: description of another save of the same run, with the same layout.
        why_basis: why there are no metadata to go by.
        options: threads, progress, what counts as good.

    Raises:
        Refused: the sibling's files hold bytes that its metadata do not name, or nothing fits.
    """
    wanted = wanted_items(sibling)
    _check_packed(sibling, wanted)
    files = _read_files(storage, sibling, wanted, options)
    good = [_good(file, options) for file in files]
    stored = placed(sibling, wanted, good)
    stored.fields = _fields(sibling)
    survey = Survey(storage, REBUILT, why_basis, stored, sibling)
    for number, file in enumerate(files):
        _take(survey, number, wanted, files, good[number])
        survey.bytes_read += sum(item.bytes_read for item in file.found)
        survey.unsummed += sum(item.unsummed for item in file.found)
    add_never_written(survey)
    survey.strangers = strangers(storage, sibling)
    return survey


def _check_packed(sibling: StoredCheckpoint, wanted: Sequence[Sequence[Wanted]]) -> None:
    """See that the sibling's items lie back to back, so that the order of all of them is known."""
    for name, items in zip(sibling.files, wanted, strict=True):
        at = 0
        for item in items:
            if item.offset != at:
                raise Refused(
                    f"the sibling's {quote(name)} has bytes between its items, at {at:,}, so that "
                    "it does not tell what a save writes",
                    hint="name a save that was not edited in place",
                )
            at += item.length


def _read_files(
    storage: LocalStorage,
    sibling: StoredCheckpoint,
    wanted: Sequence[Sequence[Wanted]],
    options: RepairOptions,
) -> list[_File]:
    walks: list[Walk | None] = []
    for name, items in zip(sibling.files, wanted, strict=True):
        compressed = bool(items) and all(item.transforms for item in items)
        try:
            walks.append(walk_archives(storage, name, compressed=compressed, most=len(items) + 1))
        except InputError:
            walks.append(None)
    places = [(n, *place) for n, walk in enumerate(walks) if walk for place in walk.items]
    meter = Meter(options.progress, sum(length for _, _, length in places))

    def examine(place: tuple[int, int, int]) -> Found:
        number, offset, length = place
        transforms = wanted[number][0].transforms if wanted[number] else ()
        found = look(storage, sibling.files[number], offset, length, transforms=transforms)
        meter.add(length)
        return found

    looked = map_all(examine, places, options.threads)
    by_file: list[list[Found]] = [[] for _ in walks]
    for (number, _, _), found in zip(places, looked, strict=True):
        by_file[number].append(found)
    return [
        _File(walk, found, _match(walk, found, items))
        for walk, found, items in zip(walks, by_file, wanted, strict=True)
    ]


def _match(walk: Walk | None, found: Sequence[Found], items: Sequence[Wanted]) -> Match:
    if walk is None:
        return Match(BEGIN)
    split = len(walk.front)
    return match_items(found[:split], found[split:], items, whole=walk.whole)


def _good(file: _File, options: RepairOptions) -> dict[int, Found]:
    return {w: file.found[f] for f, w in file.match.pairs if is_good(file.found[f], options)}


def _fields(sibling: StoredCheckpoint) -> dict[str, object]:
    """The sibling's further fields, without what identifies it as a save of its own."""
    fields = dict(sibling.fields)
    meta = fields.get("storage_meta")
    if isinstance(meta, Record):
        known = {**meta.fields, "checkpoint_id": None, "save_id": None, "load_id": None}
        fields["storage_meta"] = dataclasses.replace(meta, fields=known)
    return fields


def _take(
    survey: Survey,
    number: int,
    wanted: Sequence[Sequence[Wanted]],
    files: Sequence[_File],
    good: Mapping[int, Found],
) -> None:
    """Add one file to a survey."""
    file, items = files[number], wanted[number]
    name = survey.layout.files[number]
    matched = {w: file.found[f] for f, w in file.match.pairs}
    doubtful = set(file.match.doubtful)
    for place, item in enumerate(items):
        for owner in owners_of(item):
            if place in good:
                survey.good[(owner.fqn, owner.row)] = good[place]
            elif place in matched:
                why = problem_of(matched[place])
                survey.lost.append(Lost(owner.fqn, owner.row, name, why))
            else:
                why, doubt = _why_gone(file, place in doubtful)
                survey.lost.append(Lost(owner.fqn, owner.row, name, why, doubt))
    state, why = _state(file, items, good)
    holds = _whose(survey, number, wanted, files) if file.match.how == NONE else ""
    why += f"; its items match the sibling's {holds}" if holds else ""
    size = None if file.walk is None else file.walk.size
    survey.files.append(FileState(name, state, size, len(items), len(good), why, holds))


def _why_gone(file: _File, doubtful: bool) -> tuple[str, bool]:
    """Why an item was not found, and whether it may be there all the same."""
    if file.walk is None:
        return "its file is missing", False
    if file.match.how == NONE:
        return "the items of its file are not the sibling's", True
    if file.match.how == ENDS:
        return "it lies where the file is damaged", False
    if file.match.how == BEGIN:
        return f"its file ends at byte {file.walk.size:,}", False
    return "items of its file are missing, and it cannot be told which", doubtful


def _state(file: _File, items: Sequence[Wanted], good: Mapping[int, Found]) -> tuple[str, str]:
    """A file's state, and what is wrong with it."""
    walk, match = file.walk, file.match
    if walk is None:
        return MISSING, "it is missing"
    if match.how == NONE:
        return OTHER, match.why
    if match.how == BEGIN:
        last = sum(walk.front[-1]) if walk.front else 0
        rest = f", {walk.size - last:,} bytes of the next" if walk.hole else ""
        return CUT, f"it ends at byte {walk.size:,}, after {len(walk.front):,} items{rest}"
    if match.how == ENDS:
        assert walk.hole is not None
        return DAMAGED, f"bytes {walk.hole[0]:,} to {walk.hole[1]:,} hold no item that can be read"
    if match.how != ALL:
        return DAMAGED, f"it has {len(file.found):,} items of {len(items):,}"
    bad = [file.found[f] for f, w in match.pairs if w not in good]
    if bad:
        return DAMAGED, f"{problem_of(bad[0])}, in the item at byte {bad[0].offset:,}"
    return WHOLE, ""


def _whose(
    survey: Survey, number: int, wanted: Sequence[Sequence[Wanted]], files: Sequence[_File]
) -> str:
    """The sibling's file whose items these are, one to one; empty if there is none or several."""
    file = files[number]
    if file.walk is None or not file.walk.whole:
        return ""
    fits = [
        survey.layout.files[other]
        for other, items in enumerate(wanted)
        if match_items(file.found, (), items, whole=True).how == ALL
    ]
    return fits[0] if len(fits) == 1 else ""
