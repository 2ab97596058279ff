"""One attempt to fill a staging directory: links, files, `.metadata`, proof."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dcpctl.progress import Progress
from dcpctl.writing.conservation import prove
from dcpctl.writing.files import FileWriter
from dcpctl.writing.linking import choose, make_link
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import Plan
from dcpctl.writing.publish import check_destination
from dcpctl.writing.segments import OutputFile
from dcpctl.writing.sink import write_failed
from dcpctl.writing.space import check_space, nearest_directory
from dcpctl.writing.staging import Staging, put_back, write_synced
from dcpctl.writing.steps import step


@dataclass(frozen=True, slots=True)
class Aim:
    """Where a result goes and how, before anything is written.

    Attributes:
        destination: absolute path of the directory to make.
        link: how whole files get there.
        needed: bytes that it takes there.
    """

    destination: Path
    link: str
    needed: int


def take_aim(plan: Plan, options: WriteOptions) -> Aim:
    """See that a destination can be taken; its parent is made, but for a dry run.

    Raises:
        Refused, DestinationExists: it cannot.
        NoSpace: of a dry run, where the writing would find too little room.
        ReadFailed: the operating system failed.
    """
    destination = _absolute(plan.destination)
    _check_name(destination)
    if not options.dry_run:
        put_back(destination)
    parts = [part.name for part in plan.parts]
    check_destination(destination, plan.sources, parts, overwrite=options.overwrite)
    where = nearest_directory(destination.parent)
    whole = [file.link for file in plan.files if file.link is not None]
    link = choose(options.link, whole, where)
    needed = plan.counts.total_bytes - (0 if link == "copy" else plan.counts.bytes_linked)
    if options.dry_run:
        check_space(where, needed, len(plan.files))
        return Aim(destination, link, needed)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_failed(destination.parent.name, error) from None
    return Aim(destination, link, needed)


def _check_name(path: Path) -> None:
    """Find a name that cannot be before all is written and only the last rename fails."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise write_failed(path.name, error) from None


def _absolute(path: Path) -> Path:
    """The path without links on the way to its last component, which need not exist."""
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


class Run:
    """One attempt to fill a staging directory, or a part of one.

    Args:
        plan: what is to be written.
        options: how.
        staging: where.
        link: how whole files get there.
        numbers: the files to see to, by their numbers in the plan; None for all.

    Attributes:
        resumed: names of files that an earlier run has finished.
        written: bytes written so far.
        tally: what was written; there once `files` has been called.
        ledger: what was read of the source; as `tally`.
    """

    def __init__(
        self,
        plan: Plan,
        options: WriteOptions,
        staging: Staging,
        link: str,
        numbers: Iterable[int] | None = None,
    ) -> None:
        self.plan = plan
        self.numbers = range(len(plan.files)) if numbers is None else sorted(numbers)
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
        """Refuse to start where there is too little room.

        Raises:
            NoSpace: there is.
        """
        done = set(self.resumed)
        left = [file for file in self.plan.files if file.name not in done]
        if self.link != "copy":
            left = [file for file in left if file.link is None]
        needed = sum(file.size for file in left) + self.plan.metadata_bytes
        check_space(self.staging.root, needed, len(left) + len(self.plan.parts))

    def files(self) -> None:
        """Link and write the shard files.

        Raises:
            As `FileWriter.write`.
        """
        threads = self.threads
        left = self._linked()
        begun = self.staging.journal.begun
        total = sum(file.size - begun.get(file.name, 0) for _, file in left)
        lock = threading.Lock()
        with Progress("writing", total if self.options.progress else 0) as progress:

            def advance(amount: int) -> None:
                with lock:
                    self.written += amount
                    if self.options.progress:
                        progress.advance(amount)

            writer = FileWriter(
                self.plan.sources,
                self.staging.files,
                self._note,
                advance,
                begun=begun,
                reached=self.staging.journal.note_part,
            )
            self.tally, self.ledger, self._writer = writer.tally, writer.ledger, writer
            writer.write(left, threads)
            finished = set(self.resumed)
            for number in self.numbers:
                file = self.plan.files[number]
                if file.name in finished and file.link is None:
                    writer.expect(file.segments)

    @property
    def threads(self) -> int:
        """Number of threads."""
        return self.options.threads(decompressing=self.plan.sources.transformed)

    def verify(self, part: int = 0, parts: int = 1) -> None:
        """Compare the checksums of records that were read only in part.

        Args:
            part: which share of them.
            parts: number of shares.

        Raises:
            ChecksumMismatch: one is not what is recorded.
        """
        self._writer.verify_unread(self.threads, part, parts)

    def _linked(self) -> list[tuple[int, OutputFile]]:
        """Make the links, and return the files that have to be written, with their numbers."""
        left = []
        finished = set(self.resumed)
        for number in self.numbers:
            file = self.plan.files[number]
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
        """Write each `.metadata`, the last files; see that all is as planned, the source as it was.

        Raises:
            NotConserved: it is not.
            SourceChanged: it is not as it was.
        """
        for file in self.plan.files:
            if file.mode is not None and self.link != "hardlink":
                (self.staging.files / file.name).chmod(file.mode)
        self.staging.sync()
        for part in self.plan.parts:
            if part.metadata_file:
                where = self.staging.files / part.located(part.metadata_file)
                write_synced(where, part.metadata)
        self.staging.sync()
        step("prove")
        self.plan.sources.check_unchanged(self.plan.stamps)
        prove(self.plan, self.staging.files, self.tally)
        self.plan.sources.check_unchanged(self.plan.stamps)
