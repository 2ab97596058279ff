"""zstd streams: decompressed within bounds, refused where they are none."""

from __future__ import annotations

import os
import sys

import pytest

from dcpctl.errors import LimitExceeded, MalformedItem, MissingDependency, UnknownForm
from dcpctl.formats import transforms
from dcpctl.formats.torch_zip import open_item
from dcpctl.storage import buffer
from dcpctl.storage.buffer import BufferStorage
from tests.test_formats.archives import tensor_pickle, tensor_zip

zstandard = pytest.importorskip("zstandard")

DATA = os.urandom(300_000) + bytes(900_000)


def decode(data: bytes, **options):
    storage = BufferStorage("x")
    storage.append(b"##" + data + b"##")
    options = {"transforms": ("stream.zstd/1",), "subject": "'x'"} | options
    return transforms.decode_item(storage, "f", 2, len(data), **options)


def whole(decoded: BufferStorage) -> bytes:
    return decoded.read("", 0, decoded.size())


def test_one_frame_and_several():
    packed = zstandard.ZstdCompressor().compress(DATA)
    assert whole(decode(packed)) == DATA
    empty = zstandard.ZstdCompressor().compress(b"")
    assert whole(decode(packed + empty + empty)) == DATA  # as pyzstd leaves them
    with pytest.raises(MalformedItem, match="a second zstd frame"):
        decode(packed + packed)
    with pytest.raises(MalformedItem, match="no end"):
        decode(packed[:-1])
    writer = zstandard.ZstdCompressor().compressobj()
    assert whole(decode(writer.compress(DATA) + writer.flush())) == DATA
    assert whole(decode(b"")) == b""


@pytest.mark.parametrize("bad", ["stream.zstd/2", "stream.zstd", "stream.lz4/1", "", "x\x1b[0m"])
def test_unknown_transforms_are_refused(bad):
    with pytest.raises(UnknownForm, match="'x': unknown stream transform") as caught:
        decode(b"", transforms=(bad,))
    assert "\x1b" not in str(caught.value)


def test_later_versions_of_the_same_form_pass():
    transforms.check_known(("stream.zstd/1.7",), "x")
    transforms.check_known((), "x")


def test_compression_on_compression_is_refused():
    with pytest.raises(UnknownForm, match="2 times over"):
        decode(b"", transforms=("stream.zstd/1",) * 2)


@pytest.mark.parametrize("data", [b"no zstd at all", b"\x28\xb5\x2f\xfd\xff\xff\xff\xff\xff" * 9])
def test_what_is_no_zstd_is_malformed(data):
    with pytest.raises(MalformedItem, match="not a zstd stream"):
        decode(data)


def test_bytes_behind_a_frame_are_malformed():
    with pytest.raises(MalformedItem, match="not a zstd stream"):
        decode(zstandard.ZstdCompressor().compress(DATA) + b"garbage")


def test_a_bomb_stops_at_the_limit():
    writer = zstandard.ZstdCompressor().compressobj()
    block = bytes(1 << 20)
    bomb = b"".join(writer.compress(block) for _ in range(600)) + writer.flush()
    assert len(bomb) < 100_000
    with pytest.raises(LimitExceeded, match="more than 5000000 bytes"):
        decode(bomb, limit=5_000_000)
    with pytest.raises(LimitExceeded, match="more than 1048577 bytes"):
        storage = BufferStorage("x")
        storage.append(bomb)
        open_item(
            storage, "f", 0, len(bomb), transforms=("stream.zstd/1",), subject="x", payload_bytes=1
        )


def test_a_huge_window_is_refused():
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=30)
    writer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    with pytest.raises(LimitExceeded, match="window"):
        decode(writer.compress(b"x" * 100) + writer.flush())


def test_large_items_go_to_a_nameless_file(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(buffer.BufferStorage.__init__, "__defaults__", (1 << 16,))
    decoded = decode(zstandard.ZstdCompressor().compress(DATA))
    assert not list(tmp_path.iterdir())
    assert whole(decoded) == DATA


def test_a_stream_cut_anywhere_is_malformed():
    archive = tensor_zip(tensor_pickle((64,), numel=64), os.urandom(256)).build()
    packed = zstandard.ZstdCompressor().compress(archive)
    storage = BufferStorage("x")
    storage.append(packed)
    for length in range(len(packed)):
        with pytest.raises(MalformedItem):
            open_item(storage, "f", 0, length, transforms=("stream.zstd/1",), subject="x")


def test_without_zstandard_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingDependency, match="needs the package zstandard"):
        decode(b"x")
