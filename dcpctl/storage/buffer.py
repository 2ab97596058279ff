"""Bytes that dcpctl itself produced, read like a file: one decompressed storage item."""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path

from dcpctl.errors import MalformedItem, ReadFailed, TruncatedFile

#: Beyond this size the bytes go to an anonymous temporary file, so that memory stays bounded.
MEMORY_BYTES = 64 << 20


class BufferStorage:
    """One growing byte sequence, in memory while it is small and in a nameless file after that.

    It stands where a `Storage` is asked for; the name of the file is not looked at.

    Args:
        subject: what the bytes are, for messages.
        memory_bytes: how many bytes to hold in memory at most.
    """

    def __init__(self, subject: str, memory_bytes: int = MEMORY_BYTES) -> None:
        self.subject = subject
        self._memory_bytes = memory_bytes
        self._memory = bytearray()
        self._fd: int | None = None
        self._size = 0

    def append(self, data: bytes) -> None:
        """Add `data` at the end.

        Raises:
            ReadFailed: there is no room for the temporary file.
        """
        if self._fd is None and self._size + len(data) <= self._memory_bytes:
            self._memory += data
        else:
            self._spill(data)
        self._size += len(data)

    def _spill(self, data: bytes) -> None:
        try:
            if self._fd is None:
                self._fd, path = tempfile.mkstemp(prefix="dcpctl-")
                weakref.finalize(self, os.close, self._fd)
                Path(path).unlink()
                self._write(self._memory)
                self._memory = bytearray()
            self._write(data)
        except OSError as error:
            raise ReadFailed(
                f"{self.subject}: no temporary file for the decompressed bytes: {error.strerror}",
                hint="set TMPDIR to a directory with more room",
            ) from None

    def _write(self, data: bytes | bytearray) -> None:
        assert self._fd is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def size(self, name: str = "") -> int:
        """Return the number of bytes so far."""
        return self._size

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Return exactly the bytes [offset, offset + length); see `base.Storage.read`."""
        self._check(offset, length)
        if self._fd is None:
            return bytes(self._memory[offset : offset + length])
        out = bytearray(length)
        self.read_into(name, offset, out)
        return bytes(out)

    def read_into(self, name: str, offset: int, buffer: memoryview | bytearray) -> None:
        """Fill `buffer` with the bytes from `offset` on; see `base.Storage.read_into`."""
        view = memoryview(buffer).cast("B")
        self._check(offset, len(view))
        if self._fd is None:
            view[:] = self._memory[offset : offset + len(view)]
            return
        while view:
            count = os.preadv(self._fd, [view], offset)
            if not count:
                raise ReadFailed(f"{self.subject}: the temporary file was cut")
            view = view[count:]
            offset += count

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0:
            raise MalformedItem(f"{self.subject}: a range of {length} bytes at {offset}")
        if offset + length > self._size:
            raise TruncatedFile(
                f"{self.subject}: bytes {offset} to {offset + length} of {self._size} "
                f"decompressed ones are described"
            )
