"""A directory as a source of ranged reads, confined to that directory."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from dcpctl.errors import (
    LimitExceeded,
    MalformedItem,
    MissingFile,
    PathOutsideCheckpoint,
    TruncatedFile,
    quote,
)
from dcpctl.storage import paths
from dcpctl.storage.handles import Handle, HandleCache

#: Most file descriptors that one storage keeps open.
OPEN_FILES = 64


class LocalStorage:
    """Read-only access to the regular files in and below one directory.

    Every name is refused that could reach anything else: absolute paths, `..`, symbolic links that
    leave the directory, FIFOs, devices. Safe to use from several threads. A context manager;
    `close` releases the descriptors, and so does the collection of the object.

    Args:
        root: the directory. It may itself be a symbolic link.

    Raises:
        MissingFile: there is no directory at `root`.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        try:
            self._real = self.root.resolve(strict=True)
            status = self._real.stat()
        except (OSError, RuntimeError, ValueError) as error:
            raise paths.failed(self.root.parent, self.root.name, error) from None
        if not stat.S_ISDIR(status.st_mode):
            raise MissingFile(f"{quote(self.root)} is not a directory")
        self._handles = HandleCache(functools.partial(_open, self._real, self.root), OPEN_FILES)

    def __enter__(self) -> LocalStorage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LocalStorage({str(self.root)!r})"

    def close(self) -> None:
        """Close every descriptor; a later read raises ValueError."""
        self._handles.close()

    def names(self) -> dict[str, int]:
        """Return the regular files directly in the directory with their sizes in bytes, sorted.

        A symbolic link counts if the file it leads to lies inside the directory.

        Raises:
            ReadFailed: the directory cannot be listed.
        """
        return {name: size for name, size in self._listing() if size is not None}

    def odd(self) -> list[str]:
        """Return the entries that are neither directories nor files that `read` would open.

        That is: symbolic links that lead nowhere or out of the directory, FIFOs, sockets, devices.
        """
        return [name for name, size in self._listing() if size is None]

    def _listing(self) -> Iterator[tuple[str, int | None]]:
        try:
            with os.scandir(self._real) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            raise paths.failed(self.root.parent, self.root.name, error) from None
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    continue
                if not entry.is_symlink() and entry.is_file(follow_symlinks=False):
                    yield entry.name, entry.stat(follow_symlinks=False).st_size
                    continue
                yield entry.name, paths.locate(self._real, entry.name, self.root)[1].st_size
            except (MissingFile, PathOutsideCheckpoint):
                yield entry.name, None
            except FileNotFoundError:  # removed since the directory was listed
                continue

    def size(self, name: str) -> int:
        """Return the bytes in `name`; see `base.Storage.size`."""
        return paths.locate(self._real, name, self.root)[1].st_size

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Return exactly the bytes [offset, offset + length); see `base.Storage.read`."""
        with self._handles.use(name) as handle:
            _check_range(name, handle, offset, length)
            try:
                data = os.pread(handle.fd, length, offset)
                if len(data) == length:
                    return data
                # One call gives at most 2 GiB, and less where the file has just been cut.
                whole = bytearray(length)
                self._fill(name, handle, offset, memoryview(whole))
            except OSError as error:
                raise paths.failed(self.root, name, error) from None
            return bytes(whole)

    def read_into(self, name: str, offset: int, buffer: memoryview | bytearray) -> None:
        """Fill `buffer` with the bytes from `offset` on; see `base.Storage.read_into`."""
        view = memoryview(buffer).cast("B")
        with self._handles.use(name) as handle:
            _check_range(name, handle, offset, len(view))
            try:
                self._fill(name, handle, offset, view)
            except OSError as error:
                raise paths.failed(self.root, name, error) from None

    def _fill(self, name: str, handle: Handle, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            count = os.preadv(handle.fd, [view[done:]], offset + done)
            if not count:
                raise TruncatedFile(
                    f"{quote(name)} ended at byte {offset + done} while it was being read; "
                    f"it had {handle.size} bytes when it was opened"
                )
            done += count

    def read_all(self, name: str, limit: int) -> bytes:
        """Return the whole of `name`.

        Raises:
            LimitExceeded: it has more than `limit` bytes.
            As `read`.
        """
        with self._handles.use(name) as handle:
            size = handle.size
        if size > limit:
            raise LimitExceeded(f"{quote(name)} has {size} bytes, more than the limit of {limit}")
        return self.read(name, 0, size)


def _open(root: Path, shown: Path, name: str) -> tuple[int, int]:
    real, seen = paths.locate(root, name, shown)
    try:
        fd = _open_below(root, real.relative_to(root).parts)
    except OSError as error:
        raise paths.failed(shown, name, error) from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or not os.path.samestat(seen, status):
        os.close(fd)
        raise MissingFile(f"{quote(name)} in {quote(shown)} was replaced while it was being opened")
    return fd, status.st_size


def _open_below(root: Path, parts: tuple[str, ...]) -> int:
    """Open a file by a path without links, one directory after the other.

    A link that was put into the path after it was resolved is not followed, wherever it stands.
    """
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(part, flags, dir_fd=directory)
            os.close(directory)
            directory = inner
        # Without O_NONBLOCK a FIFO put there after `locate` looked would block for ever.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        return os.open(parts[-1], flags, dir_fd=directory)
    finally:
        os.close(directory)


def _check_range(name: str, handle: Handle, offset: int, length: int) -> None:
    if offset < 0 or length < 0:
        raise MalformedItem(f"{quote(name)}: a range of {length} bytes at {offset} is asked for")
    if offset + length > handle.size:
        raise TruncatedFile(
            f"{quote(name)} has {handle.size} bytes, but bytes {offset} to {offset + length} "
            "of it are described"
        )
