"""Where a thread writes: a run of bytes in an output file, gathered in one reused buffer."""

from __future__ import annotations

import os

from dcpctl.errors import ReadFailed, quote
from dcpctl.writing.steps import step

#: Bytes written with one call. Small enough to stay in the processor's cache from the read through
#: the checksum to the write.
BUFFER_BYTES = 512 << 10


class Sink:
    """Writes consecutive bytes at a position of a file.

    Args:
        fd: the file, open for writing; other threads may write elsewhere in it.
        name: its name, for messages.
        at: position of the first byte.
        buffer: memory to use, `BUFFER_BYTES`; one thread's at a time.
    """

    def __init__(self, fd: int, name: str, at: int, buffer: memoryview) -> None:
        self._fd = fd
        self._name = name
        self._at = at
        self._buffer = buffer
        self._used = 0

    @property
    def position(self) -> int:
        """Position of the next byte."""
        return self._at + self._used

    def room(self, most: int) -> memoryview:
        """Return up to `most` bytes of the buffer, to be filled by the caller at once.

        They count as written.
        """
        free = len(self._buffer) - self._used
        if free < most and free < len(self._buffer) // 4:
            self.flush()
            free = len(self._buffer)
        start = self._used
        self._used += min(most, free)
        return self._buffer[start : self._used]

    def put(self, data: bytes | bytearray | memoryview) -> None:
        """Write bytes.

        Raises:
            ReadFailed: the operating system failed to write.
        """
        view = memoryview(data)
        if len(view) >= len(self._buffer):
            self.flush()
            self._write(view)
            return
        while view:
            room = self.room(len(view))
            room[:] = view[: len(room)]
            view = view[len(room) :]

    def flush(self) -> None:
        """Hand everything over to the operating system; errors as `put`."""
        if self._used:
            self._write(self._buffer[: self._used])
            self._used = 0

    def _write(self, view: memoryview) -> None:
        step("write")
        try:
            while view:
                count = os.pwrite(self._fd, view, self._at)
                self._at += count
                view = view[count:]
        except OSError as error:
            raise write_failed(self._name, error) from None


def write_failed(name: str, error: OSError) -> ReadFailed:
    """The error that stands for the operating system's."""
    return ReadFailed(f"writing {quote(name)} failed: {error.strerror}")
