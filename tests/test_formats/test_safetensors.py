"""safetensors headers: real ones, and every kind of lie."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from dcpctl import limits
from dcpctl.errors import DcpctlError, LimitExceeded, MalformedMetadata, TruncatedFile, UnknownForm
from dcpctl.formats.safetensors import read_header, read_index
from dcpctl.formats.tensor_read import read_raw_box
from dcpctl.storage.buffer import BufferStorage
from dcpctl.storage.local import LocalStorage


def blob(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def header_of(data: bytes, *, before: bytes = b""):
    storage = BufferStorage("x")
    storage.append(before + data)
    return read_header(storage, "f", offset=len(before), subject="'f'")


def tensor(start: int, stop: int, *, dtype: object = "U8", shape: object = None) -> dict:
    shape = [stop - start] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_reads_tensors_in_header_order():
    header = {
        "__metadata__": {"format": "pt"},
        "b": tensor(4, 28, dtype="F32", shape=[2, 3]),
        "a": tensor(0, 4, dtype="BF16", shape=[2]),
        "scalar": tensor(28, 29, shape=[]),
        "empty": tensor(29, 29, dtype="I64", shape=[3, 0]),
    }
    data = blob(header, bytes(29) + b"more")
    found = header_of(data, before=b"seven b")
    assert list(found.tensors) == ["b", "a", "scalar", "empty"]
    assert found.metadata == {"format": "pt"}
    assert found.saved_offsets is None
    assert found.data_offset == 7 + len(data) - 33
    assert found.end == found.data_offset + 29
    b = found.tensors["b"]
    assert (b.name, b.dtype, b.shape) == ("b", "float32", (2, 3))
    assert (b.offset, b.length) == (found.data_offset + 4, 24)


def test_padding_and_no_tensors():
    assert header_of(blob(b"{}   ")).tensors == {}
    assert header_of(blob({"__metadata__": {}})).metadata == {}


def test_four_bit_numbers_are_counted_in_pairs():
    found = header_of(blob({"a": tensor(0, 6, dtype="F4", shape=[3, 4])}, bytes(6)))
    assert found.tensors["a"].shape == (3, 2)
    assert found.tensors["a"].dtype == "float4_e2m1fn_x2"
    for shape in ([3], []):
        with pytest.raises(MalformedMetadata, match="does not fill its last byte"):
            header_of(blob({"a": tensor(0, 1, dtype="F4", shape=shape)}, bytes(6)))


def test_dcp_sharding_info():
    info = {"a": {"saved_offsets": [4, 0]}, "elsewhere": {"saved_offsets": [1]}}
    header = {
        "__metadata__": {"DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(info)},
        "a": tensor(0, 6, shape=[2, 3]),
    }
    found = header_of(blob(header, bytes(6)))
    assert found.saved_offsets == {"a": (4, 0), "elsewhere": (1,)}


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ("[", "not JSON"),
        ("[]", "the JSON is no object"),
        ('{"a": [0, 0]}', "no saved_offsets for 'a'"),
        ('{"a": {}}', "no saved_offsets for 'a'"),
        ('{"a": {"saved_offsets": [0, -1]}}', "no saved_offsets for 'a'"),
        ('{"a": {"saved_offsets": [0, 1.0]}}', "no saved_offsets for 'a'"),
        ('{"a": {"saved_offsets": [0, true]}}', "no saved_offsets for 'a'"),
        ('{"a": {"saved_offsets": [0]}}', "1 offsets for 'a', which has 2 dimensions"),
        ('{"b": {"saved_offsets": [%s0]}}' % ("0," * 64), "no saved_offsets for 'b'"),
        ('{"a": {"saved_offsets": [0,0]}, "a": {"saved_offsets": [0,1]}}', "stands twice"),
        ("\\ud800", "not UTF-8|not JSON"),
    ],
)
def test_sharding_info_that_lies(info, message):
    text = json.dumps(info) if info != "\\ud800" else '"\\ud800"'
    header = f'{{"__metadata__": {{"DCP_SHARDING_INFO": {text}}}, "a": {json.dumps(TENSOR)}}}'
    with pytest.raises(MalformedMetadata, match=message):
        header_of(blob(header.encode(), bytes(6)))


TENSOR = tensor(0, 6, shape=[2, 3])

LIES = {
    "not_json": (b"{nothing", "not JSON"),
    "no_brace": (b' {"a": 1}', "does not begin with '{'"),
    "list": (b"[]", "does not begin"),
    "not_utf8": (b'{"\xff": 1}', "not UTF-8"),
    "deep": (b'{"a":' + b"[" * 100_000, "nested too deeply|not JSON"),
    "long_number": (b'{"a":' + b"9" * 10_000 + b"}", "not JSON|has no dtype"),
    "nan": (b'{"a": NaN}', "NaN is no JSON"),
    "infinity": (b'{"a": -Infinity}', "-Infinity is no JSON"),
    "doubled": (b'{"a": {}, "b": {}, "a": {}}', "the key 'a' stands twice"),
    "doubled_inside": (b'{"a": {"dtype": "U8", "dtype": "I8"}}', "the key 'dtype' stands twice"),
    "metadata_list": ({"__metadata__": []}, "no map of strings"),
    "metadata_number": ({"__metadata__": {"a": 1}}, "no map of strings"),
    "no_fields": ({"a": {"dtype": "U8"}}, "has no dtype, shape or data_offsets"),
    "no_object": ({"a": 7}, "has no dtype, shape or data_offsets"),
    "shape_negative": ({"a": tensor(0, 6, shape=[-2, -3])}, "of the wrong kind"),
    "shape_float": ({"a": tensor(0, 6, shape=[6.0])}, "of the wrong kind"),
    "shape_bool": ({"a": tensor(0, 1, shape=[True])}, "of the wrong kind"),
    "shape_text": ({"a": tensor(0, 6, shape="6")}, "of the wrong kind"),
    "shape_huge": ({"a": tensor(0, 6, shape=[1 << 62, 1 << 62])}, "takes 2126764793255865396"),
    "shape_beyond": ({"a": tensor(0, 6, shape=[1 << 64])}, "of the wrong kind"),
    "dimensions": ({"a": tensor(0, 1, shape=[1] * 65)}, "has 65 dimensions"),
    "dtype_number": ({"a": tensor(0, 6, dtype=7)}, "of the wrong kind"),
    "offsets_one": ({"a": {"dtype": "U8", "shape": [6], "data_offsets": [6]}}, "wrong kind"),
    "offsets_backwards": ({"a": tensor(6, 0, shape=[6])}, "has -6"),
    "size_differs": ({"a": tensor(0, 6, dtype="F32", shape=[2])}, "takes 8 bytes"),
    "overlap": ({"a": tensor(0, 6), "b": tensor(4, 8)}, "'b' at byte 4 overlaps the one before"),
    "same_place": ({"a": tensor(0, 6), "b": tensor(0, 6)}, "overlaps"),
    "hole": ({"a": tensor(0, 6), "b": tensor(7, 8)}, "'b' at byte 7 leaves a hole"),
    "hole_first": ({"a": tensor(1, 6)}, "leaves a hole"),
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie_are_refused(lie):
    header, message = LIES[lie]
    with pytest.raises(MalformedMetadata, match=message) as caught:
        header_of(blob(header, bytes(100)))
    assert str(caught.value).startswith("'f': ")


def test_unknown_dtypes_are_an_unknown_form():
    with pytest.raises(UnknownForm, match="dtype 'F6_E2M3'"):
        header_of(blob({"a": tensor(0, 6, dtype="F6_E2M3")}, bytes(6)))


def test_files_cut_anywhere_are_truncated():
    whole = blob({"a": tensor(0, 6)}, bytes(6))
    for length in range(len(whole)):
        with pytest.raises(TruncatedFile):
            header_of(whole[:length])


def test_lengths_beyond_are_refused():
    with pytest.raises(LimitExceeded, match="header of 18446744073709551615 bytes"):
        header_of(blob(b"{}", length=(1 << 64) - 1))
    with pytest.raises(TruncatedFile):
        header_of(blob(b"{}", length=1 << 20))


def test_headers_of_too_many_values_are_refused(monkeypatch):
    monkeypatch.setattr(limits, "JSON_NODES", 1000)
    with pytest.raises(LimitExceeded, match="JSON of 1002 values"):
        header_of(blob({"a": [0] * 1001}))


def test_every_flipped_byte_ends_in_a_named_error():
    whole = blob({"__metadata__": {"DCP_SHARDING_INFO": "{}"}, "a": tensor(0, 6)}, bytes(6))
    for position in range(len(whole)):
        for mask in (0x01, 0x20, 0x80):
            data = bytearray(whole)
            data[position] ^= mask
            try:
                header_of(bytes(data))
            except DcpctlError:
                continue


def test_index():
    text = json.dumps({"metadata": {"total_size": 3}, "weight_map": {"a": "x.safetensors"}})
    assert read_index(text.encode(), "'i'") == {"a": "x.safetensors"}
    for bad in (b"{}", b'{"weight_map": []}', b'{"weight_map": {"a": 1}}'):
        with pytest.raises(MalformedMetadata, match="no 'weight_map'"):
            read_index(bad, "'i'")


@pytest.mark.parametrize("layout", ["hf_sharded", "hf_consolidated", "hf_rank0_two_files"])
def test_real_files_give_the_true_bytes(shared, layout):
    for release in ("2.9.1", "2.13.0"):
        root = shared / "checkpoints" / release / layout
        truth = json.loads((root / "expected.json").read_text())["entries"]
        # A consolidated checkpoint holds every tensor twice: whole, and in shards.
        for folder in {path.parent for path in root.rglob("*.safetensors")}:
            assert digests(folder, truth) == {fqn: e["sha256"] for fqn, e in truth.items()}


def test_real_safetensors_blobs_in_shard_files(shared):
    root = shared / "checkpoints" / "2.13.0" / "safetensors_format"
    truth = json.loads((root / "expected.json").read_text())["entries"]
    found = digests(root / "ckpt", truth)
    assert found == {fqn: entry["sha256"] for fqn, entry in truth.items()}


def digests(folder, truth) -> dict[str, str]:
    full: dict[str, np.ndarray] = {}
    with LocalStorage(folder) as storage:
        for name, size in storage.names().items():
            if not name.endswith((".safetensors", ".distcp")):
                continue
            header = read_header(storage, name, subject=name)
            assert header.end == size
            for fqn, entry in header.tensors.items():
                part = read_raw_box(storage, name, entry.offset, entry.dtype, entry.shape)
                start = (header.saved_offsets or {}).get(fqn, (0,) * part.ndim)
                box = tuple(slice(a, a + n) for a, n in zip(start, part.shape, strict=True))
                full.setdefault(fqn, np.zeros(truth[fqn]["shape"], part.dtype))[box] = part
    return {fqn: hashlib.sha256(array.tobytes()).hexdigest() for fqn, array in full.items()}
