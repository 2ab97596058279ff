"""Reading a document as hostile as any other input: a regular file of bounded size."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from dcpctl.errors import DcpctlError, ReadFailed, quote

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of document.

    Attributes:
        name: as in "too large for a policy".
        error: class of the errors about what it says.
        most: bytes that it may have.
        hint: the next step where it cannot be read.
    """

    name: str
    error: type[DcpctlError]
    most: int
    hint: str | None = None


def read_bytes(path: Path, kind: Kind) -> bytes:
    """Return what is in a regular file; a FIFO or a device is refused and not waited for.

    Raises:
        kind.error: it is too large, or no file.
        ReadFailed: it cannot be read.
    """
    try:
        # Without O_NONBLOCK opening a FIFO that nobody writes to would block for ever.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        with os.fdopen(os.open(path, flags), "rb", buffering=0) as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise kind.error(
                    f"{quote(path)} is no file but a {special(mode)}",
                    hint=f"write the {kind.name} to a file first",
                )
            found = bytearray()
            while len(found) <= kind.most:  # a file can grow, and /proc's have no size
                more = stream.read(min(_CHUNK, kind.most + 1 - len(found)))
                if not more:
                    return bytes(found)
                found += more
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        why = getattr(error, "strerror", None) or error
        raise ReadFailed(
            f"cannot read the {kind.name} {quote(path)}: {why}", hint=kind.hint
        ) from None
    raise kind.error(
        f"{quote(path)} is too large for a {kind.name}: more than {kind.most:,} bytes",
        hint=kind.hint,
    )


def special(mode: int) -> str:
    """Return what something is that is no regular file, from its `st_mode`."""
    tests = {
        "FIFO": stat.S_ISFIFO,
        "socket": stat.S_ISSOCK,
        "character device": stat.S_ISCHR,
        "block device": stat.S_ISBLK,
    }
    return next((name for name, test in tests.items() if test(mode)), "directory")


def as_text(data: bytes, path: Path, kind: Kind) -> str:
    """Return what a file holds as text.

    Raises:
        kind.error: it is not UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise kind.error(f"{quote(path)} is not UTF-8", hint=kind.hint) from None
