"""What the formats ask of a place where bytes live."""

from __future__ import annotations

from typing import Protocol


class Storage(Protocol):
    """Ranged reads of named byte sequences.

    `local.LocalStorage` is a directory, `buffer.BufferStorage` one decompressed item.
    """

    def size(self, name: str) -> int:
        """Return the number of bytes in `name`.

        Raises:
            MissingFile: there is no such regular file.
            PathOutsideCheckpoint: the name leads out of the storage.
        """
        ...

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Return exactly the bytes [offset, offset + length) of `name`.

        Raises:
            TruncatedFile: the file ends before `offset + length`.
            MissingFile, PathOutsideCheckpoint: as `size`.
            ReadFailed: the operating system failed to read.
        """
        ...

    def read_into(self, name: str, offset: int, buffer: memoryview | bytearray) -> None:
        """Fill `buffer` with the bytes of `name` from `offset` on; errors as `read`."""
        ...
