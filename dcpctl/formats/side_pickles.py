"""Pickles in files beside the shards, which frameworks load without restriction.

Megatron-core's `common.pt`, Lightning's `meta.pt`, accelerate's `random_states_0.pkl`: told by
their first bytes and not by their names. Nothing is unpickled; each stream is run by the machine
that executes nothing, which says what loading it would import and call.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dcpctl import limits
from dcpctl.errors import DcpctlError, quote
from dcpctl.formats.pickles import calls, policy
from dcpctl.formats.pickles.imports import Import
from dcpctl.formats.pickles.vm import Machine
from dcpctl.storage.base import Storage

#: `torch.save` before 1.6: five pickles in a row, and then the numbers (`_legacy_save`).
_LEGACY_MAGIC, _LEGACY_PICKLES = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", 5
_ZIP, _NUMPY = b"PK\3\4", b"\x93NUMPY"
#: Names under which pickles of protocol 0 and 1 stand, which have no first bytes of their own.
_OLD_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".p", ".metadata")
#: Records of a ZIP archive that are pickles, or arrays that may hold one.
_PICKLED, _ARRAY = ".pkl", ".npy"
_MOST_RECORDS = 10_000
_HEAD_BYTES = 1 << 10
#: torch_dist's objects and others may be anything.
_POLICY = replace(policy.VALUES, columnar=False)


def imports_of(storage: Storage, name: str, size: int) -> tuple[list[Import], str]:
    """Return what loading the pickles in a file imports and calls, and what was not judged.

    Args:
        storage: where the file lies.
        name: the file.
        size: its bytes.

    Returns:
        The globals that are no passive values, and why a part of the file could not be judged;
        nothing of a file that holds no pickle.

    Raises:
        As `Storage.read`.
    """
    uses: dict[str, int] = {}
    unjudged = ""
    for stream in _streams(storage, name, size):
        if isinstance(stream, str):
            unjudged = unjudged or stream
            continue
        data, count = stream
        machine = None
        for _ in range(count):
            machine = Machine(data, _POLICY, quote(name), _storage)
            machine.cut = count > 1
            try:
                machine.run()
            except DcpctlError as error:
                unjudged = unjudged or error.message
            for path, use in machine.uses.items():
                uses[path] = max(use, uses.get(path, use))
            data = data[machine.pos :]
            if not data:
                break
    return [Import(*used) for used in sorted(uses.items())], unjudged


def _storage(key: Any) -> Any:
    """The storage of a persistent id, which before torch 1.6 had a sixth part."""
    return calls.storage_from_persistent_id(key[:5] if isinstance(key, tuple) else key)


def _streams(storage: Storage, name: str, size: int) -> Iterator[tuple[bytes, int] | str]:
    """Every pickle in a file and how many follow each other there, or why one is not read."""
    head = storage.read(name, 0, min(size, _HEAD_BYTES))
    if head.startswith(_ZIP):
        yield from _archived(storage, name, size)
    elif head.startswith(_NUMPY):
        yield from _array(storage.read(name, 0, min(size, limits.VALUE_BYTES)))
    elif head.startswith(_LEGACY_MAGIC):
        yield storage.read(name, 0, min(size, limits.VALUE_BYTES)), _LEGACY_PICKLES
    elif _begins(head, name):
        if size > limits.VALUE_BYTES:
            yield f"a pickle of {size} bytes, over {limits.VALUE_BYTES}"
        else:
            yield storage.read(name, 0, size), 1


def _begins(head: bytes, name: str) -> bool:
    """Whether a file begins as a pickle does: with PROTO, or in ASCII where its name says so."""
    if len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return True
    return name.endswith(_OLD_SUFFIXES) and head[:1] in _OLD_OPENINGS


#: Opcodes that a pickle of protocol 0 or 1 can begin with, by hand too.
_OLD_OPENINGS = {bytes([code]) for code in b"()]}cidlVSUXTIKMJLFGN"}


def _archived(storage: Storage, name: str, size: int) -> Iterator[tuple[bytes, int] | str]:
    """The pickles of a ZIP archive: one of torch.save under any name, or NumPy's `.npz`."""
    try:
        with zipfile.ZipFile(io.BufferedReader(_File(storage, name, size), 1 << 16)) as archive:
            records = archive.infolist()
            if len(records) > _MOST_RECORDS:
                yield f"an archive of {len(records)} records"
                records = records[:_MOST_RECORDS]
            for record in records:
                if not record.filename.endswith((_PICKLED, _ARRAY)):
                    continue
                with archive.open(record) as opened:
                    data = opened.read(limits.VALUE_BYTES + 1)
                if len(data) > limits.VALUE_BYTES:
                    yield f"a record of more than {limits.VALUE_BYTES} bytes"
                elif record.filename.endswith(_ARRAY):
                    yield from _array(data)
                else:
                    yield data, 1
    except (zipfile.BadZipFile, NotImplementedError, ValueError, RuntimeError, EOFError, OSError):
        yield "a ZIP archive that is malformed"


def _array(data: bytes) -> Iterator[tuple[bytes, int] | str]:
    """The pickle in a `.npy` file of objects (`numpy/lib/format.py`)."""
    wide = data[6:7] != b"\1"
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    if b"O" in data[start : start + length].partition(b"shape")[0]:
        yield data[start + length :], 1


class _File(io.RawIOBase):
    """A file of a storage for `zipfile`, which seeks in it."""

    def __init__(self, storage: Storage, name: str, size: int) -> None:
        self._storage = storage
        self._name = name
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("before the beginning")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._at))
        view[:count] = self._storage.read(self._name, self._at, count)
        self._at += count
        return count
