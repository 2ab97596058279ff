"""The directory beside the destination in which a result grows until it is whole.

`.NAME.partial-XXXXXXXX/` holds the journal and, in `files/`, what becomes the destination by one
rename. The digits are those of the plan's fingerprint: a run that resumes finds its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from dcpctl.errors import Refused, quote
from dcpctl.storage.names import beside
from dcpctl.storage.renames import is_at, rename
from dcpctl.writing.journal import Journal
from dcpctl.writing.sink import write_failed
from dcpctl.writing.steps import step

JOURNAL = "journal"
_FILES = "files"
#: Where a checkpoint that is overwritten lies between two renames.
ASIDE = "files.old"
_DIGITS = 8


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
        self._made = self.files.lstat()

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
        own = beside(destination, f"partial-{fingerprint[:8]}")
        notes: list[str] = []
        try:
            for left in leftovers(destination):
                if left != own:
                    _remove_leftover(left, notes)
            step("stage")
            (own / _FILES).mkdir(parents=True, exist_ok=True)
            for path in (own, own / _FILES):
                if path.is_symlink():
                    raise Refused(f"{quote(path)} is a link; not followed")
            journal = Journal(own / JOURNAL)
        except FileNotFoundError:
            raise _busy(own) from None  # which has just removed what was made here
        except OSError as error:
            raise write_failed(own.name, error) from None
        try:
            if not journal.acquire():
                raise _busy(own)
            staging = cls(own, journal, notes)
            staging._take_over(fingerprint, resume=resume)
            for name in directories:
                (staging.files / name).mkdir(exist_ok=True)
        except OSError as error:
            journal.close()
            raise write_failed(own.name, error) from None
        except BaseException:
            journal.close()
            raise
        return staging

    @classmethod
    def join(cls, root: Path) -> Staging:
        """Take part in one that another rank of this job has locked.

        Raises:
            ReadFailed: the operating system failed, as where this machine does not see it.
        """
        try:
            return cls(root, Journal(root / JOURNAL), [])
        except OSError as error:
            raise write_failed(root.name, error) from None

    def is_published(self, destination: Path) -> bool:
        """Whether the files have become the destination."""
        return is_at(self._made, destination)

    def _take_over(self, fingerprint: str, *, resume: bool) -> None:
        """Keep what is finished of the same plan; of all else, nothing."""
        if resume and self.journal.read(fingerprint, self._made.st_ino):
            _empty(self.files, {*self.journal.finished, *self.journal.begun})
            finished = len(self.journal.finished)
            self.notes.append(f"going on with {quote(self.root)}: {finished} files are finished")
            return
        if resume:
            self.notes.append("there is nothing to resume; starting from the beginning")
        elif any(self.files.iterdir()):
            self.notes.append(f"removed what an interrupted run had left in {quote(self.root)}")
        _empty(self.files)
        self.journal.begin(fingerprint, self._made.st_ino)

    def sync(self) -> None:
        """Have the names of the files on disk."""
        for where, _, _ in os.walk(self.files, topdown=False):
            sync_directory(Path(where))

    def close(self) -> None:
        """Unlock the directory and leave it, for `--resume`."""
        self.journal.close()

    def leave(self) -> bool:
        """Leave what there is for `--resume`; False if there is nothing, and it was removed.

        There is nothing, too, once the files have become the destination.
        """
        if is_at(self._made, self.files) and any(self.files.iterdir()):
            self.close()
            return True
        self.remove()
        return False

    def remove(self) -> None:
        """Remove the directory and all that is left in it."""
        try:
            step("clean up")
            remove_staged(self.root, ignore_errors=True)
        finally:
            self.journal.close()


def remove_staged(root: Path, *, ignore_errors: bool = False) -> None:
    """Remove a staging directory, what tells that it is one last: this may be interrupted too.

    It stays locked meanwhile, by whoever does this.
    """
    for path in list(root.iterdir()) if root.is_dir() else ():
        if path.name != JOURNAL:
            shutil.rmtree(path, ignore_errors=ignore_errors)
    shutil.rmtree(root, ignore_errors=ignore_errors)


def leftovers(destination: Path) -> list[Path]:
    """The staging directories beside a destination, of runs that are over or still at it."""
    if not destination.parent.is_dir():
        return []
    prefix = beside(destination, f"partial-{'0' * _DIGITS}").name[:-_DIGITS]
    found = []
    for path in sorted(destination.parent.iterdir()):
        digits = path.name.removeprefix(prefix)
        hexadecimal = len(digits) == _DIGITS and all(d in "0123456789abcdef" for d in digits)
        if path.name.startswith(prefix) and hexadecimal and _is_staging(path):
            found.append(path)
    return found


def _is_staging(path: Path) -> bool:
    """Whether a directory of such a name has a journal, or came only so far that it has none."""
    if path.is_symlink() or not path.is_dir():
        return False
    journal = path / JOURNAL
    if not os.path.lexists(journal):
        return [*path.rglob("*")] in ([], [path / _FILES])
    return journal.is_file() and not journal.is_symlink()


def put_back(destination: Path) -> None:
    """Put a checkpoint back that a killed run had moved aside to overwrite it.

    Only where the filesystem cannot exchange two directories in one step (`publish.publish`).

    Raises:
        ReadFailed: the operating system failed.
    """
    if os.path.lexists(destination):
        return
    try:
        for left in leftovers(destination):
            aside = left / ASIDE
            if not aside.is_dir() or aside.is_symlink():
                continue
            journal = Journal(left / JOURNAL)
            try:
                if journal.acquire() and not os.path.lexists(destination):
                    step("put back")
                    rename(aside, destination)
            finally:
                journal.close()
    except OSError as error:
        raise write_failed(destination.name, error) from None


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
    """Write a small new file and have it on disk.

    Raises:
        Refused: there is one of that name.
        ReadFailed: the operating system failed.
    """
    step(f"write {path.name}")
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise met(path) from None
    except OSError as error:
        raise write_failed(path.name, error) from None


def met(path: Path) -> Refused:
    """The error for a new file at whose path there is another already, of this very result.

    Only a filesystem that takes two names for one does that: by case, or by the form of accents.
    """
    other = next((n for n in _names(path.parent) if n != path.name and _one(path, n)), None)
    if other is None:
        return Refused(f"{quote(path)} has appeared meanwhile")
    return Refused(
        f"{quote(other)} and {quote(path.name)} are one name on this filesystem, and would "
        "overwrite each other",
        hint="write to a filesystem that tells upper case from lower case, or rename one of them",
    )


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()] if directory.is_dir() else []


def _one(path: Path, other: str) -> bool:
    return path.exists() and is_at(path.lstat(), path.with_name(other))


def _remove_leftover(path: Path, notes: list[str]) -> None:
    journal = Journal(path / JOURNAL)
    try:
        if not journal.acquire():
            raise _busy(path)
        step("remove leftover")
        remove_staged(path)
    finally:
        journal.close()
    notes.append(f"removed what an interrupted run had left in {quote(path)}")


def _empty(directory: Path, keep: Collection[str] = ()) -> None:
    """Remove every file of a directory but those, and all links; directories only with all."""
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_symlink() or not path.is_dir():
            if path.is_symlink() or path.relative_to(directory).as_posix() not in keep:
                path.unlink(missing_ok=True)
        elif not keep:
            path.rmdir()


def _busy(path: Path) -> Refused:
    return Refused(f"another process is writing to this destination, in {quote(path)}")
