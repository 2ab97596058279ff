"""The directory beside the destination in which a result grows until it is whole.

`.NAME.partial-XXXXXXXX/` holds the journal and, in `files/`, what becomes the destination by one
rename. The digits are those of the plan's fingerprint: a run that resumes finds its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from dcpctl.errors import Refused, quote
from dcpctl.writing.journal import Journal
from dcpctl.writing.sink import write_failed
from dcpctl.writing.steps import step

JOURNAL = "journal"
_FILES = "files"


class Staging:
    """A staging directory that this process has locked.

    Attributes:
        root: the directory.
        files: where the result's files go.
        journal: what is finished.
        notes: sentences about what earlier runs had left.
    """

    def __init__(self, root: Path, journal: Journal, notes: list[str]) -> None:
        self.root = root
        self.files = root / _FILES
        self.journal = journal
        self.notes = notes

    @classmethod
    def begin(
        cls,
        destination: Path,
        fingerprint: str,
        directories: Sequence[str] = (),
        *,
        resume: bool,
    ) -> Staging:
        """Make the staging directory, or take over the one that an interrupted run left.

        Leftovers of other plans for the same destination are removed, and so is that of this one
        without `resume`.

        Args:
            destination: absolute path of the directory to make.
            fingerprint: of the plan.
            directories: paths of directories to make in it, parents first.
            resume: keep the files that are finished.

        Raises:
            Refused: another process is writing to the same destination.
            ReadFailed: the operating system failed.
        """
        own = destination.parent / f".{destination.name}.partial-{fingerprint[:8]}"
        notes: list[str] = []
        try:
            for left in leftovers(destination):
                if left != own:
                    _remove_leftover(left, notes)
            step("stage")
            (own / _FILES).mkdir(parents=True, exist_ok=True)
            journal = Journal(own / JOURNAL)
        except OSError as error:
            raise write_failed(own.name, error) from None
        if not journal.acquire():
            journal.close()
            raise _busy(own)
        staging = cls(own, journal, notes)
        known = journal.read(fingerprint)
        if known and resume:
            staging._make(directories)
            notes.append(f"going on with {quote(own)}: {len(journal.finished)} files are finished")
            return staging
        if resume:
            notes.append("there is nothing to resume; starting from the beginning")
        elif any(staging.files.iterdir()):
            notes.append(f"removed what an interrupted run had left in {quote(own)}")
        _empty(staging.files)
        journal.begin(fingerprint)
        staging._make(directories)
        return staging

    def _make(self, directories: Sequence[str]) -> None:
        try:
            for name in directories:
                (self.files / name).mkdir(exist_ok=True)
        except OSError as error:
            raise write_failed(self.root.name, error) from None

    def sync(self) -> None:
        """Have the names of the files on disk."""
        for where, _, _ in os.walk(self.files, topdown=False):
            sync_directory(Path(where))

    def close(self) -> None:
        """Unlock the directory and leave it, for `--resume`."""
        self.journal.close()

    def leave(self) -> bool:
        """Leave what there is for `--resume`; False if there is nothing, and it was removed."""
        if any(self.files.iterdir()):
            self.close()
            return True
        self.remove()
        return False

    def remove(self) -> None:
        """Remove the directory and all that is left in it."""
        step("clean up")
        self.journal.close()
        shutil.rmtree(self.root, ignore_errors=True)


def leftovers(destination: Path) -> list[Path]:
    """The staging directories beside a destination, of runs that are over or still at it."""
    if not destination.parent.is_dir():
        return []
    prefix = f".{destination.name}.partial-"
    found = []
    for path in sorted(destination.parent.iterdir()):
        digits = path.name.removeprefix(prefix)
        hexadecimal = len(digits) == 8 and all(digit in "0123456789abcdef" for digit in digits)
        if path.name.startswith(prefix) and hexadecimal and (path / JOURNAL).is_file():
            found.append(path)
    return found


def sync_directory(path: Path) -> None:
    """Have the names in a directory on disk; a filesystem that cannot is let be."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)


def write_synced(path: Path, data: bytes) -> None:
    """Write a small file and have it on disk.

    Raises:
        ReadFailed: the operating system failed.
    """
    step(f"write {path.name}")
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_failed(path.name, error) from None


def _remove_leftover(path: Path, notes: list[str]) -> None:
    journal = Journal(path / JOURNAL)
    try:
        if not journal.acquire():
            raise _busy(path)
        step("remove leftover")
        shutil.rmtree(path)
    finally:
        journal.close()
    notes.append(f"removed what an interrupted run had left in {quote(path)}")


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _busy(path: Path) -> Refused:
    return Refused(f"another process is writing to this destination, in {quote(path)}")
