"""A checkpoint with metadata: is every item where they say, and good?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dcpctl.errors import InputError
from dcpctl.formats.archive_walk import Place, walk_archives
from dcpctl.formats.records import StoredCheckpoint
from dcpctl.model.shard_file import rank_and_number
from dcpctl.parallel import Meter, map_all
from dcpctl.repair.found import TENSOR, Found, look
from dcpctl.repair.options import RepairOptions
from dcpctl.repair.survey import (
    CUT,
    DAMAGED,
    MISSING,
    OTHER,
    WHOLE,
    FileState,
    Lost,
    Survey,
    owners_of,
    placed,
)
from dcpctl.repair.wanted import Wanted, wanted_items
from dcpctl.storage.local import LocalStorage

UNSUMMED = "it records no checksum, so that it cannot be proved"


@dataclass(frozen=True, slots=True)
class _Job:
    file: int
    number: int
    item: Wanted


def survey_described(
    storage: LocalStorage,
    stored: StoredCheckpoint,
    basis: str,
    why_basis: str,
    options: RepairOptions,
) -> Survey:
    """Read every item that a description names, and compare it with its checksums.

    Args:
        storage: the directory.
        stored: the description.
        basis: where it comes from.
        why_basis: why it does not come from `.metadata`.
        options: threads, progress, what counts as good.
    """
    wanted = wanted_items(stored)
    sizes = [_size(storage, name) for name in stored.files]
    jobs = [_Job(f, n, item) for f, items in enumerate(wanted) for n, item in enumerate(items)]
    meter = Meter(options.progress, sum(job.item.length for job in jobs))

    def examine(job: _Job) -> Found:
        found = _examine(storage, stored.files[job.file], sizes[job.file], job.item)
        meter.add(job.item.length)
        return found

    results = map_all(examine, jobs, options.threads)
    by_file: list[dict[int, Found]] = [{} for _ in wanted]
    for job, found in zip(jobs, results, strict=True):
        by_file[job.file][job.number] = found
    elsewhere = [
        _places_elsewhere(storage, name, items, found)
        for name, items, found in zip(stored.files, wanted, by_file, strict=True)
    ]
    for places, items in zip(elsewhere, by_file, strict=True):
        for number, item in items.items() if places else ():
            # What seems to be in its place is of another save too.
            items[number] = Found(item.offset, item.length, problem="its file is another save's")
    good: list[dict[int, Found]] = [
        {n: item for n, item in items.items() if is_good(item, options)} for items in by_file
    ]
    survey = Survey(storage, basis, why_basis, placed(stored, wanted, good), stored)
    survey.bytes_read = sum(found.bytes_read for found in results)
    survey.unsummed = sum(found.unsummed for found in results)
    for file in range(len(wanted)):
        _take(survey, file, wanted, by_file[file], elsewhere[file], options)
    add_never_written(survey)
    survey.strangers = strangers(storage, stored)
    return survey


def is_good(found: Found, options: RepairOptions) -> bool:
    """Whether an item is as good as the options ask for."""
    return found.good and (not found.unsummed or options.allow_unsummed)


def problem_of(found: Found) -> str:
    """Why an item is not good, in words."""
    return found.problem or UNSUMMED


def strangers(storage: LocalStorage, stored: StoredCheckpoint) -> list[str]:
    """Shard files with content that a description does not name.

    A rank with nothing to write leaves an empty file, in every release.
    """
    named = set(stored.files)
    return [
        name
        for name, size in storage.names().items()
        if size and name not in named and rank_and_number(name)[0] is not None
    ]


def add_never_written(survey: Survey) -> None:
    """Add the chunks and entries to which the description itself gives no item."""
    for fqn, entry in survey.layout.entries.items():
        rows = (
            [row for row, file in enumerate(entry.chunks.file.tolist()) if file < 0]
            if hasattr(entry, "chunks")
            else [-1] * (entry.file < 0)
        )
        survey.lost += [
            Lost(fqn, row, "", "the metadata name no item that holds it") for row in rows
        ]


def _size(storage: LocalStorage, name: str) -> int | None:
    try:
        return storage.size(name)
    except InputError:
        return None


def _examine(storage: LocalStorage, name: str, size: int | None, item: Wanted) -> Found:
    if size is None:
        return Found(item.offset, item.length, problem="its file is missing")
    if item.offset < 0 or item.length < 0 or item.offset + item.length > size:
        return Found(item.offset, item.length, problem=f"its file ends at byte {size:,}")
    found = look(storage, name, item.offset, item.length, transforms=item.transforms)
    if found.good and item.kind == TENSOR and not item.fits(found):
        what = f"{found.dtype}{list(found.sizes)}" if found.kind == TENSOR else "an object"
        unlike = f"it holds {what}, .metadata describes {item.what}"
        return Found(item.offset, item.length, found.kind, problem=unlike)
    return found


def _take(
    survey: Survey,
    file: int,
    wanted: Sequence[Sequence[Wanted]],
    found: dict[int, Found],
    places: set[Place],
    options: RepairOptions,
) -> None:
    """Add one file to a survey; `places` are those of its items, if they are another save's."""
    name, items = survey.layout.files[file], wanted[file]
    size = _size(survey.storage, name)
    bad = [number for number in range(len(items)) if not is_good(found[number], options)]
    for number, item in enumerate(items):
        for owner in owners_of(item):
            if number in found and is_good(found[number], options):
                survey.good[(owner.fqn, owner.row)] = found[number]
            else:
                why = problem_of(found[number])
                survey.lost.append(Lost(owner.fqn, owner.row, name, why))
    state, why, holds = WHOLE, "", ""
    if size is None:
        state, why = MISSING, "it is missing"
    elif places:
        state, why = (
            OTHER,
            "its items are not where .metadata places them: it belongs to another save",
        )
        for other, theirs in zip(survey.layout.files, wanted, strict=True):
            if places == {(item.offset, item.length) for item in theirs}:
                why, holds = f"it holds the items that belong into {other}", other
        survey.stale = True
    elif bad:
        end = max((item.offset + item.length for item in items), default=0)
        state = CUT if size < end else DAMAGED
        first = items[bad[0]]
        why = (
            f"it ends at byte {size:,} of {end:,}"
            if state == CUT
            else f"{problem_of(found[bad[0]])}, in the item at byte {first.offset:,}"
        )
    good = len(items) - len(bad)
    survey.files.append(FileState(name, state, size, len(items), good, why, holds))


def _places_elsewhere(
    storage: LocalStorage, name: str, items: Sequence[Wanted], found: dict[int, Found]
) -> set[Place]:
    """The places of a file's items, if there are good ones where none is said to be; else none."""
    gone = [
        (item.offset, item.offset + item.length)
        for number, item in enumerate(items)
        if not found[number].good
    ]
    if not gone or any(item.transforms for item in items):
        return set()
    known = {(item.offset, item.length) for item in items}
    try:
        places = walk_archives(storage, name, most=len(items) + 1).items
    except InputError:  # it is missing
        return set()
    for offset, length in places:
        if (offset, length) in known or not any(
            start < offset + length and offset < stop for start, stop in gone
        ):
            continue
        if look(storage, name, offset, length).good:
            return set(places)
    return set()
