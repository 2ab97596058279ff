"""Chunks in every encoding, and metadata that says other than the item."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dcpctl.errors import LimitExceeded, MalformedItem, TruncatedFile, UnknownForm
from dcpctl.formats.chunk_read import ChunkSource, open_chunk, read_chunk
from dcpctl.storage.buffer import BufferStorage
from tests.test_formats.archives import tensor_pickle, tensor_zip

zstandard = pytest.importorskip("zstandard")

NUMBERS = np.arange(12, dtype="<f4").reshape(3, 4)
ARCHIVE = tensor_zip(tensor_pickle((3, 4), numel=12), NUMBERS.tobytes()).build()
RAW = NUMBERS.tobytes()
ZSTD = ("stream.zstd/1",)


def packed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def place(data: bytes, encoding: str, transforms: tuple[str, ...] = ()):
    storage = BufferStorage("x")
    storage.append(b"before" + data + b"after")
    return storage, ChunkSource(
        "f", 6, len(data), "float32", (3, 4), encoding, transforms, "'layers.0'"
    )


FORMS = {
    "torch": (ARCHIVE, "torch", ()),
    "raw": (RAW, "raw", ()),
    "torch_zstd": (packed(ARCHIVE), "torch", ZSTD),
    "raw_zstd": (packed(RAW), "raw", ZSTD),
}


@pytest.mark.parametrize("form", FORMS)
def test_reads_boxes(form):
    storage, chunk = place(*FORMS[form])
    assert read_chunk(storage, chunk).tolist() == NUMBERS.tolist()
    assert read_chunk(storage, chunk, (1, 0), (2, 4)).tolist() == NUMBERS[1:2].tolist()
    assert read_chunk(storage, chunk, (0, 3), (3, 4)).tolist() == NUMBERS[:, 3:].tolist()
    with pytest.raises(ValueError, match="not inside"):
        read_chunk(storage, chunk, (0, 0), (4, 4))


CHANGES = [
    (form, change)
    for form in FORMS
    for change in ({"shape": (4, 3)}, {"shape": (3, 5)}, {"dtype": "float64"})
    # Bare bytes do not tell their shape.
    if not (form.startswith("raw") and change == {"shape": (4, 3)})
]


@pytest.mark.parametrize(("form", "change"), CHANGES)
def test_metadata_that_says_otherwise_is_refused(form, change):
    storage, chunk = place(*FORMS[form])
    with pytest.raises((MalformedItem, LimitExceeded), match=r"'layers\.0'"):
        read_chunk(storage, replace(chunk, **change))


def test_messages_name_both_sides():
    storage, chunk = place(ARCHIVE, "torch")
    with pytest.raises(MalformedItem) as caught:
        open_chunk(storage, replace(chunk, dtype="bfloat16"))
    assert str(caught.value) == (
        "'layers.0': the item holds float32[3, 4], the metadata says bfloat16[3, 4]"
    )


def test_cut_files_and_unknown_forms():
    storage, chunk = place(RAW, "raw")
    with pytest.raises(TruncatedFile):
        read_chunk(storage, replace(chunk, offset=20))
    with pytest.raises(UnknownForm, match="unknown encoding 'morse'"):
        read_chunk(storage, replace(chunk, encoding="morse"))
    with pytest.raises(UnknownForm, match=r"unknown stream transform 'stream\.lz4/1'"):
        read_chunk(storage, replace(chunk, transforms=("stream.lz4/1",)))


def test_a_bomb_is_bounded_by_what_the_metadata_promises():
    storage, chunk = place(packed(bytes(50 << 20)), "torch", ZSTD)
    with pytest.raises(LimitExceeded, match="decompresses to more than 1048624 bytes"):
        read_chunk(storage, chunk)
