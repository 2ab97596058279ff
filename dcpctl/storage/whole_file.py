"""A file that appears under its name only when it is whole: reports, receipts, baselines."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from dcpctl.errors import ReadFailed, quote
from dcpctl.storage.names import beside
from dcpctl.storage.renames import rename


@contextmanager
def whole_file(path: Path, name: str = "", hint: str | None = None) -> Iterator[TextIO]:
    """Give a file that appears under its name only when it is whole, and on the disk.

    What is there and no regular file, such as /dev/null, is written as it stands. An error of the
    body is the body's: only that the file cannot be opened, written or put in place is said here.

    Args:
        path: the file.
        name: what it is, for messages: "the receipt".
        hint: the next step where it cannot be written.

    Raises:
        ReadFailed: it cannot be written.
    """
    what = f"{name} {quote(path)}" if name else quote(path)

    def failed(error: Exception) -> ReadFailed:
        why = getattr(error, "strerror", None) or error
        return ReadFailed(f"cannot write {what}: {why}", hint=hint)

    try:
        target = path.resolve()
        is_special = target.exists() and not target.is_file()
        partial = target if is_special else beside(target, f"partial-{os.urandom(4).hex()}")
        flags = os.O_WRONLY | os.O_CLOEXEC | (0 if is_special else os.O_CREAT | os.O_EXCL)
        raw = _Target(os.open(partial, flags, 0o666), failed)
    except (OSError, ValueError, RuntimeError) as error:
        raise failed(error) from None
    try:
        with io.TextIOWrapper(
            io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", newline="\n"
        ) as stream:
            yield stream
            stream.flush()
            raw.settle(durable=not is_special)
        if not is_special:
            try:
                rename(partial, target)
            except OSError as error:
                raise failed(error) from None
    finally:
        if not is_special:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


class _Target(io.FileIO):
    """A descriptor whose own failures are told from those of whoever writes to it."""

    def __init__(self, fd: int, failed: Callable[[OSError], ReadFailed]) -> None:
        super().__init__(fd, "w")
        self._failed = failed

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise self._failed(error) from None

    def settle(self, *, durable: bool) -> None:
        """Put what was written on the disk: after a crash it is whole or not there."""
        try:
            if durable:
                os.fsync(self.fileno())
        except OSError as error:
            raise self._failed(error) from None
