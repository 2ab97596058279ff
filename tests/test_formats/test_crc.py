"""Checksums by blocks."""

from __future__ import annotations

import os
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from dcpctl.errors import TruncatedFile
from dcpctl.formats import crc
from dcpctl.storage.buffer import BufferStorage

DATA = os.urandom(2 * crc.BLOCK_BYTES + 12345)


@pytest.fixture
def storage():
    made = BufferStorage("x")
    made.append(DATA)
    return made


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 0), (5, 1), (0, crc.BLOCK_BYTES), (7, crc.BLOCK_BYTES + 1), (0, len(DATA))],
)
def test_ranges(storage, offset, length):
    want = zlib.crc32(DATA[offset : offset + length])
    assert crc.crc32_range(storage, "f", offset, length) == want
    assert crc.crc32(DATA[offset : offset + length]) == want


def test_is_continued(storage):
    first = crc.crc32_range(storage, "f", 0, 1000)
    assert crc.crc32_range(storage, "f", 1000, 5000, first) == zlib.crc32(DATA[:6000])


def test_threads_do_not_share_their_block(storage):
    ranges = [(n * 1000, crc.BLOCK_BYTES + n) for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda r: crc.crc32_range(storage, "f", *r), ranges))
    assert found == [zlib.crc32(DATA[a : a + n]) for a, n in ranges]


def test_the_end_of_the_file_is_truncation(storage):
    with pytest.raises(TruncatedFile):
        crc.crc32_range(storage, "f", 0, len(DATA) + 1)


def test_zlib_serves_where_zlib_ng_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "zlib_ng", None)
    assert crc._fastest() is zlib.crc32


@pytest.mark.parametrize("combine", [crc.combine, crc._combine])
@pytest.mark.parametrize("cut", [0, 1, 1000, len(DATA)])
def test_sums_of_pieces_are_combined(combine, cut):
    first, second = DATA[:cut], DATA[cut:]
    found = combine(zlib.crc32(first), zlib.crc32(second), len(second))
    assert found == zlib.crc32(DATA)
