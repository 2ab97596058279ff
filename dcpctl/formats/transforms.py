"""Stream transforms of storage items: zstd, the one that torch has.

A storage item with `transform_descriptors` was passed through each of them in turn before it was
written (torch 2.7, `torch/distributed/checkpoint/_extension.py`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import BinaryIO, NoReturn, cast

from dcpctl import limits
from dcpctl.errors import (
    LimitExceeded,
    MalformedItem,
    MissingDependency,
    UnknownForm,
    Unloadable,
    quote,
)
from dcpctl.storage.base import Storage
from dcpctl.storage.buffer import BufferStorage

#: Bytes of compressed input handed over at once.
_INPUT_BLOCK = 64 << 10
#: Largest window that a frame may ask memory for; zstd's own default for decoders.
_MAX_WINDOW = 128 << 20


def check_known(transforms: Sequence[str], subject: str) -> None:
    """Refuse transforms that dcpctl cannot undo.

    Args:
        transforms: descriptors as the metadata has them, such as `stream.zstd/1`.
        subject: the item, for messages.

    Raises:
        UnknownForm: an unknown transform or version, or more than one.
    """
    for descriptor in transforms:
        name, _, version = descriptor.partition("/")
        # torch's ZStandard.from_descriptor takes every 1.x.
        if name != "stream.zstd" or version.partition(".")[0] != "1":
            raise Unloadable(
                f"{subject}: unknown stream transform {quote(descriptor)}, which torch refuses"
            )
    if len(transforms) > 1:
        raise UnknownForm(f"{subject}: compressed {len(transforms)} times over")


def decode_item(
    storage: Storage,
    name: str,
    offset: int,
    length: int,
    *,
    transforms: Sequence[str],
    subject: str,
    limit: int | None = None,
) -> BufferStorage:
    """Decompress one storage item.

    Args:
        storage: where the item lies.
        name: its shard file.
        offset: first byte of the item in the file.
        length: compressed bytes of the item.
        transforms: as in `check_known`; at least one.
        subject: the item, for messages.
        limit: most decompressed bytes; default `limits.DECOMPRESSED_BYTES`.

    Returns:
        The decompressed bytes; in memory up to 64 MiB, beyond that in a nameless temporary file.

    Raises:
        UnknownForm: as `check_known`.
        MalformedItem: the bytes are no zstd stream.
        LimitExceeded: the stream has more bytes than `limit`, or a window of over 128 MiB.
        MissingDependency: the package zstandard is not installed.
    """
    check_known(transforms, subject)
    most = limits.DECOMPRESSED_BYTES if limit is None else min(limit, limits.DECOMPRESSED_BYTES)
    out = BufferStorage(subject)
    for part in _zstd(_blocks(storage, name, offset, length), subject):
        if out.size() + len(part) > most:
            raise LimitExceeded(f"{subject}: decompresses to more than {most} bytes")
        out.append(part)
    return out


def _blocks(storage: Storage, name: str, offset: int, length: int) -> Iterator[bytes]:
    for done in range(0, length, _INPUT_BLOCK):
        yield storage.read(name, offset + done, min(_INPUT_BLOCK, length - done))


def _zstd(blocks: Iterator[bytes], subject: str) -> Iterator[bytes]:
    """Yield the decompressed parts of the frame that the blocks make, at most 1 MiB each.

    A block of 64 KiB of input can stand for gigabytes of zeros, so the output is drawn through a
    reader that is asked for bounded pieces.
    """
    try:
        import zstandard
    except ImportError:
        raise MissingDependency(
            f"{subject} is compressed with zstd, which needs the package zstandard",
            hint="pip install zstandard",
        ) from None
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    frames = _Frames(subject)
    source = cast(BinaryIO, _Source(map(frames.feed, blocks)))
    reader = decompressor.stream_reader(source, read_size=_INPUT_BLOCK)
    try:
        while part := reader.read(1 << 20):
            yield part
        while source.read(_INPUT_BLOCK):
            pass
        frames.finish()
    except zstandard.ZstdError as error:
        if "memory" in str(error):
            raise LimitExceeded(f"{subject}: its zstd window is over {_MAX_WINDOW} bytes") from None
        raise MalformedItem(f"{subject}: not a zstd stream: {error}") from None


class _Frames:
    """Follows the blocks of zstd frames (RFC 8878, 3.1.1): one, and empty ones behind it.

    torch writes one frame an item with the package zstandard, and with pyzstd empty ones behind it.
    Whether more than the first is read depends on the decoder that is installed, and on its
    release, so that there shall be nothing in them.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._held = b""
        self._skip = 0
        self._ended = True
        self._steps = self._walk()
        self._wanted = next(self._steps)

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the item, and return them.

        Raises:
            MalformedItem: they are no frame's, or those of a second one with content.
        """
        rest = self._held + data
        while True:
            skipped = min(self._skip, len(rest))
            self._skip -= skipped
            rest = rest[skipped:]
            if self._skip or len(rest) < self._wanted:
                break
            taken, rest = rest[: self._wanted], rest[self._wanted :]
            self._wanted = self._steps.send(taken)
        self._held = rest
        return data

    def finish(self) -> None:
        """Raise MalformedItem if a frame has not ended."""
        if not self._ended or self._held:
            self._fail("the last zstd frame has no end")

    def _walk(self) -> Generator[int, bytes, NoReturn]:
        """Ask for the next bytes by their number; `_skip` are passed over before them."""
        first = True
        while True:
            head = yield 5
            self._ended = False
            if head[:4] != b"\x28\xb5\x2f\xfd":
                self._fail("not a zstd stream")
            flags = head[4]
            single = flags >> 5 & 1
            content = (single, 2, 4, 8)[flags >> 6]
            self._skip = (1 - single) + (0, 1, 2, 4)[flags & 3] + content
            last = 0
            while not last:
                header = int.from_bytes((yield 3), "little")
                last, kind, size = header & 1, header >> 1 & 3, header >> 3
                if size and not first:
                    self._fail("a second zstd frame, which not every reader reads")
                self._skip = 1 if kind == 1 else size
            self._skip += 4 * (flags >> 2 & 1)
            yield 0
            self._ended, first = True, False

    def _fail(self, what: str) -> NoReturn:
        raise MalformedItem(f"{self._subject}: {what}")


class _Source:
    """The input blocks as the file object that zstandard asks for."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks

    def read(self, size: int) -> bytes:
        return next(self._blocks, b"")
