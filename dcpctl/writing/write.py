"""From a plan to a directory: staged, synced, proved, published."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from dcpctl.errors import ReadFailed, quote
from dcpctl.progress import Progress
from dcpctl.writing.conservation import prove
from dcpctl.writing.files import FileWriter
from dcpctl.writing.in_place import write_in_place
from dcpctl.writing.linking import choose, make_link
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import Plan
from dcpctl.writing.publish import DestinationExists, check_destination, publish
from dcpctl.writing.report import Report
from dcpctl.writing.segments import OutputFile
from dcpctl.writing.sink import write_failed
from dcpctl.writing.space import check_space, nearest_directory
from dcpctl.writing.staging import Staging, write_synced
from dcpctl.writing.steps import step

METADATA = ".metadata"


def write(plan: Plan, options: WriteOptions | None = None) -> Report:
    """Carry out a plan.

    The result grows in a directory beside the destination and takes its place by one rename, when
    it is whole, on disk and proved to hold what was planned. Whatever happens before that leaves
    the destination and the source as they were.

    Args:
        plan: from `writing.plan.plan`, with the same `in_place`.
        options: how.

    Returns:
        What was done.

    Raises:
        Refused, DestinationExists: the destination cannot be taken.
        NoSpace: there is too little room for the result.
        ChecksumMismatch, MalformedItem: the source is damaged.
        SourceChanged: the source was written to meanwhile.
        ReadFailed: the operating system failed; what is finished is kept for `resume`.
    """
    options = options or WriteOptions()
    if plan.in_place:
        return write_in_place(plan, options)
    started = time.monotonic()
    destination = _absolute(plan.destination)
    check_destination(destination, plan.sources, overwrite=options.overwrite)
    where = nearest_directory(destination.parent)
    whole = [file.link for file in plan.files if file.link is not None]
    link = choose(options.link, whole, where)
    needed = plan.counts.total_bytes - (0 if link == "copy" else plan.counts.bytes_whole)
    if options.dry_run:
        check_space(where, needed, len(plan.files))
        return Report(plan.destination, plan.counts, link, needed, dry_run=True)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_failed(destination.parent.name, error) from None
    staging = Staging.begin(destination, plan.fingerprint, resume=options.resume)
    try:
        run = _Run(plan, options, staging, link)
        run.check_space()
        run.files()
        run.metadata()
        publish(staging.files, destination, overwrite=options.overwrite)
    except (ReadFailed, DestinationExists, KeyboardInterrupt) as error:
        staging.close()
        if isinstance(error, ReadFailed) and error.hint is None:
            error.hint = f"what is finished is kept in {quote(staging.root)}; go on with --resume"
        raise
    except BaseException:
        staging.remove()
        raise
    staging.remove()
    return Report(
        plan.destination,
        plan.counts,
        link,
        run.written + len(plan.metadata),
        time.monotonic() - started,
        resumed=tuple(run.resumed),
        notes=tuple(staging.notes),
    )


def _absolute(path: Path) -> Path:
    """The path without links on the way to its last component, which need not exist."""
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


class _Run:
    """One attempt to fill a staging directory."""

    def __init__(self, plan: Plan, options: WriteOptions, staging: Staging, link: str) -> None:
        self.plan = plan
        self.options = options
        self.staging = staging
        self.link = link
        self.resumed = [file.name for file in plan.files if self._is_finished(file)]
        self.written = 0

    def _is_finished(self, file: OutputFile) -> bool:
        if self.staging.journal.finished.get(file.name) != file.size:
            return False
        path = self.staging.files / file.name
        return path.is_file() and path.stat().st_size == file.size

    def check_space(self) -> None:
        done = set(self.resumed)
        left = [file for file in self.plan.files if file.name not in done]
        if self.link != "copy":
            left = [file for file in left if file.link is None]
        needed = sum(file.size for file in left) + len(self.plan.metadata)
        check_space(self.staging.root, needed, len(left) + 1)

    def files(self) -> None:
        """Link and write the shard files, and compare every checksum of what they are made of."""
        plan = self.plan
        threads = self.options.threads(decompressing=plan.sources.transformed)
        left = self._linked()
        total = sum(file.size for _, file in left)
        lock = threading.Lock()
        with Progress("writing", total if self.options.progress else 0) as progress:

            def advance(amount: int) -> None:
                with lock:
                    self.written += amount
                    if self.options.progress:
                        progress.advance(amount)

            writer = FileWriter(plan.sources, self.staging.files, self._note, advance)
            writer.write(left, threads)
            finished = set(self.resumed)
            for file in plan.files:
                if file.name in finished and file.link is None:
                    writer.expect(file)
            writer.verify_unread(threads)
        self.tally = writer.tally

    def _linked(self) -> list[tuple[int, OutputFile]]:
        """Make the links, and return the files that have to be written, with their numbers."""
        left = []
        finished = set(self.resumed)
        for number, file in enumerate(self.plan.files):
            if file.name in finished:
                continue
            target = self.staging.files / file.name
            if (
                file.link is None
                or self.link == "copy"
                or not make_link(self.link, file.link, target)
            ):
                left.append((number, file))
        return left

    def _note(self, file: OutputFile) -> None:
        step(f"journal {file.name}")
        self.staging.journal.note(file.name, file.size)

    def metadata(self) -> None:
        """Write `.metadata`, the last file; see that all is as planned and the source as it was."""
        self.staging.sync()
        write_synced(self.staging.files / METADATA, self.plan.metadata)
        self.staging.sync()
        step("prove")
        prove(self.plan, self.staging.files, self.tally)
        self.plan.sources.check_unchanged(self.plan.stamps)
