"""Decompressed bytes in memory and, beyond a size, in a nameless file."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from dcpctl.errors import MalformedItem, ReadFailed, TruncatedFile
from dcpctl.storage.buffer import BufferStorage

FDS = Path("/proc/self/fd")


@pytest.mark.parametrize("memory", [0, 10, 1000])
def test_reads_back_what_was_appended(memory, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    buffer = BufferStorage("x", memory_bytes=memory)
    for part in (b"abcdef", b"", b"ghij", b"klmnop"):
        buffer.append(part)
    assert buffer.size() == buffer.size("any") == 16
    assert buffer.read("", 4, 8) == b"efghijkl"
    assert buffer.read("", 16, 0) == b""
    out = bytearray(3)
    buffer.read_into("", 9, out)
    assert out == b"jkl"
    assert not list(tmp_path.iterdir())
    with pytest.raises(TruncatedFile, match="of 16 decompressed"):
        buffer.read("", 10, 7)
    with pytest.raises(MalformedItem):
        buffer.read("", -1, 2)
    with pytest.raises(TruncatedFile):
        buffer.read_into("", 16, bytearray(1))


@pytest.mark.skipif(not FDS.is_dir(), reason="no /proc")
def test_collection_closes_the_file():
    before = len(list(FDS.iterdir()))
    buffer = BufferStorage("x", memory_bytes=1)
    buffer.append(b"abc")
    del buffer
    gc.collect()
    assert len(list(FDS.iterdir())) == before


def test_no_room_is_a_read_failure(monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(ReadFailed, match="No space left"):
        BufferStorage("x", memory_bytes=1).append(b"abc")
