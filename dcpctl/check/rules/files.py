"""DCP2xx: are the files there, whole, inside the checkpoint, and nothing else?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from dcpctl.check import words
from dcpctl.check.finding import ERROR, INFO, WARNING
from dcpctl.check.registry import Hit, rule
from dcpctl.check.run import Run
from dcpctl.errors import MissingFile, PathOutsideCheckpoint, ReadFailed
from dcpctl.formats.layouts import dcp, fit, per_rank
from dcpctl.formats.records import Int64s
from dcpctl.model.shard_file import missing_ranks, rank_words

_SHARD = re.compile(r"__\d+_\d+\.distcp")


@rule("DCP201", ERROR, "a shard file is missing")
def missing(run: Run) -> Iterator[Hit]:
    """Files that the metadata names and that are not there; those of whole ranks together."""
    for part in run.checkpoint.parts:
        if part.stored.form.per_rank:
            gone = missing_ranks(per_rank.ranks_of(part.storage.names()))
            if gone:
                yield Hit(
                    part.located(f"__{gone[0]}.metadata"),
                    f"the metadata and the files of {rank_words(gone)} are not here: gather them "
                    "where each node saves to a disk of its own",
                    part.located(f"__{gone[0]}.metadata"),
                )
    files = run.checkpoint.files
    here = {file.rank for file in files if file.size is not None}
    elsewhere: list[int] = []
    for number, error in run.closed.items():
        if isinstance(error, ReadFailed):
            raise error
        if isinstance(error, MissingFile):
            if files[number].rank is None or files[number].rank in here:
                yield _closed_file(run, number, error.message)
            else:
                elsewhere.append(number)
    if elsewhere:
        hit = _closed_file(run, elsewhere[0], str(run.closed[elsewhere[0]]))
        ranks = rank_words(sorted({files[number].rank or 0 for number in elsewhere}))
        more = len(elsewhere) - 1
        yield replace(
            hit,
            message=f"the files of {ranks} are not here: {hit.message}"
            + (
                f"; so {'is' if more == 1 else 'are'} {words.count(more, 'more file')}"
                if more
                else ""
            )
            + "; gather them where each node saves to a disk of its own, or repair an interrupted "
            "save",
        )


@rule("DCP202", ERROR, "a shard file is truncated")
def truncated(run: Run) -> Iterator[Hit]:
    """Files that end inside or before items which lie in them back to back."""
    for number, file in enumerate(run.checkpoint.files):
        cut, _ = _beyond_end(run, number)
        if len(cut) and number not in run.displaced:
            end = int(run.items.stop[cut].max())
            yield Hit(
                file.name,
                f"has {file.size:,} of {end:,} bytes; {words.count(len(cut), 'item')} cut or gone: "
                f"{words.some(dict.fromkeys(run.items.fqn(item) for item in cut.tolist()))}",
                file.name,
                file.size,
            )


@rule("DCP203", WARNING, "a shard file is longer than described")
def longer(run: Run) -> Iterator[Hit]:
    """Bytes behind the last item; DCP writes none."""
    for number, file in enumerate(run.checkpoint.files):
        extra = (file.size or 0) - file.described_bytes
        if extra > 0 and file.items and number not in run.displaced:
            yield Hit(
                file.name,
                f"has {words.count(extra, 'byte')} behind the last item, which ends at byte "
                f"{file.described_bytes:,}",
                file.name,
                file.described_bytes,
            )


@rule("DCP204", ERROR, "a storage item lies outside its file")
def past_end(run: Run) -> Iterator[Hit]:
    """Negative offsets or lengths, and places past the end that no truncation explains."""
    items = run.items
    for number, file in enumerate(run.checkpoint.files):
        _, astray = _beyond_end(run, number)
        for item in astray.tolist():
            yield Hit(
                items.fqn(item),
                f"its item of {words.count(int(items.length[item]), 'byte')} at byte "
                f"{int(items.offset[item]):,} is not inside the file"
                + (f" of {words.count(file.size, 'byte')}" if file.size is not None else ""),
                file.name,
                int(items.offset[item]),
            )


@rule("DCP205", ERROR, "storage items overlap")
def overlapping(run: Run) -> Iterator[Hit]:
    """Different items that share bytes of a file."""
    items = run.items
    for number, file in enumerate(run.checkpoint.files):
        rows = _distinct(run, number)
        if len(rows) < 2:
            continue
        offset, stop = items.offset[rows], items.stop[rows]
        reach = np.maximum.accumulate(stop)
        hit = np.flatnonzero(offset[1:] < reach[:-1]) + 1
        if len(hit):
            later = int(hit[0])
            earlier = int(np.flatnonzero(stop[:later] > offset[later])[0])
            shared = min(int(stop[earlier]), int(stop[later])) - int(offset[later])
            more = len(hit) - 1
            first, second = items.fqn(int(rows[earlier])), items.fqn(int(rows[later]))
            yield Hit(
                second,
                f"its item shares {words.count(shared, 'byte')} with that of "
                f"{words.some([first])}" + (f"; so do {more:,} more in this file" if more else ""),
                file.name,
                int(offset[later]),
            )


@rule("DCP206", ERROR, "a path leads out of the checkpoint", security=True)
def outside(run: Run) -> Iterator[Hit]:
    """Absolute paths, `..`, and symbolic links to elsewhere; never opened."""
    for number, error in run.closed.items():
        if isinstance(error, PathOutsideCheckpoint):
            yield _closed_file(run, number, error.message)


@rule("DCP207", WARNING, "leftovers of an interrupted save")
def leftovers(run: Run) -> Iterator[Hit]:
    """Temporary files that a finished save removes."""
    for part in run.checkpoint.parts:
        for name in part.storage.names():
            if name.endswith("metadata.tmp"):
                yield Hit(
                    part.located(name),
                    "a save into this directory did not finish; shard files of the same names may "
                    "be the later save's",
                    part.located(name),
                )
            elif name.endswith(".tmp"):
                yield Hit(part.located(name), "a temporary file was left", part.located(name))


@rule("DCP208", WARNING, "a shard file that no entry uses")
def stray(run: Run) -> Iterator[Hit]:
    """Shard files with content that the metadata do not name."""
    for part in run.checkpoint.parts:
        named = set(part.stored.files)
        for name, size in part.storage.names().items():
            # A rank with nothing to write leaves an empty file, in every release.
            if size and name not in named and _SHARD.fullmatch(name):
                yield Hit(
                    part.located(name),
                    f"{words.count(size, 'byte')} of another save, with other ranks or files: "
                    "the metadata name no item in it",
                    part.located(name),
                )


@rule("DCP209", WARNING, "something that is no file", security=True)
def odd(run: Run) -> Iterator[Hit]:
    """Dangling or outward symbolic links, FIFOs, sockets and devices beside the shard files."""
    for part in run.checkpoint.parts:
        for name in part.storage.odd():
            yield Hit(
                part.located(name),
                "is neither a file nor a directory, or a symbolic link that leads nowhere or out "
                "of the checkpoint; not opened",
                part.located(name),
            )


@rule("DCP211", WARNING, "metadata of two saves in one directory")
def two_kinds(run: Run) -> Iterator[Hit]:
    """A `.metadata` beside the `__R.metadata` of each rank, of which one kind is another save's."""
    for part in run.checkpoint.parts:
        names = part.storage.names()
        if not (dcp.recognises(names) and per_rank.recognises(names)):
            continue
        each = rank_words(per_rank.ranks_of(names))
        found = fit.fitting(part.storage)
        if found == fit.ONE:
            what = f"the shard files are those of .metadata: move the metadata of {each} away"
        elif found == fit.PER_RANK:
            what = (
                f"the shard files are those of the metadata of {each}, so .metadata is another "
                "save's, and torch would read it: move it away"
            )
        elif found == fit.BOTH:
            what = "the sizes of the shard files fit both: move the older kind away"
        else:
            what = "the shard files fit neither: files of both saves are mixed, or some are damaged"
        yield Hit(
            part.located(dcp.METADATA),
            f".metadata lies beside the metadata of {each}; {what}",
            part.located(dcp.METADATA),
            severity=ERROR if found in (fit.PER_RANK, fit.NEITHER) else None,
        )


@rule("DCP210", INFO, "bytes that no item holds")
def unused(run: Run) -> Iterator[Hit]:
    """Gaps between items; DCP packs them back to back."""
    items = run.items
    for number, file in enumerate(run.checkpoint.files):
        rows = _distinct(run, number)
        if file.size is None or not len(rows) or run.is_blob(number):
            continue
        reach = np.concatenate([[0], np.maximum.accumulate(items.stop[rows])[:-1]])
        start = np.minimum(items.offset[rows], file.size)
        gap = np.maximum(start - np.minimum(reach, file.size), 0)
        if gap.any():
            first = int(np.flatnonzero(gap)[0])
            where = words.count(int((gap > 0).sum()), "gap")
            yield Hit(
                file.name,
                f"{words.count(int(gap.sum()), 'byte')} in {where} between items belong to none",
                file.name,
                int(reach[first]),
            )


def _closed_file(run: Run, number: int, message: str) -> Hit:
    items = run.items
    place = items.of_file(number)
    names = dict.fromkeys(items.fqn(item) for item in range(place.start, place.stop))
    lost = f"; {words.count(place.stop - place.start, 'item')} in it: {words.some(names)}"
    name = run.checkpoint.files[number].name
    return Hit(name, message + (lost if names else ""), name)


def _distinct(run: Run, number: int) -> Int64s:
    """Items of a file that take up bytes, without those that repeat an item of the same entry."""
    items = run.items
    place = items.of_file(number)
    rows = np.arange(place.start, place.stop)
    rows = rows[(items.length[rows] > 0) & (items.offset[rows] >= 0)]
    same = np.zeros(len(rows), dtype=bool)
    for column in (items.name, items.offset, items.length):
        values = column[rows]
        equal = values[1:] == values[:-1]
        same[1:] = equal if column is items.name else same[1:] & equal
    return rows[~same]


def _beyond_end(run: Run, number: int) -> tuple[Int64s, Int64s]:
    """Items of a file that reach past its end: those that were cut off, and those astray.

    Items lie back to back, so what follows a gap past the end of the file was never there.
    """
    items, size = run.items, run.checkpoint.files[number].size
    place = items.of_file(number)
    rows = np.arange(place.start, place.stop)
    offset, length, stop = items.offset[rows], items.length[rows], items.stop[rows]
    malformed = (offset < 0) | (length < 0)
    if size is None:
        return rows[:0], rows[malformed]
    beyond = ~malformed & ((stop > size) | (stop - offset != length))
    reach = np.maximum.accumulate(np.where(malformed, 0, stop))
    gap = np.zeros(len(rows), dtype=bool)
    if len(rows):
        gap[0] = offset[0] > size
        gap[1:] = (offset[1:] > reach[:-1]) & (offset[1:] > size)
    behind_gap = np.logical_or.accumulate(gap) if len(rows) else gap
    # So is an item that reaches past the end where another one begins before it.
    lies = stop - offset != length
    lies[:-1] |= offset[1:] < size
    astray = beyond & (behind_gap | lies)
    return rows[beyond & ~astray], rows[malformed | astray]
