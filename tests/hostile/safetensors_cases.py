"""Directories of safetensors files whose headers lie."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.registry import case

BAD = "malformed-metadata"
W = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def blob(header: Any, data: bytes = bytes(8), size: int | None = None) -> bytes:
    """A safetensors file with this header, which may be raw bytes."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if size is None else size) + raw + data


def _file(name: str, opens: str, make: Callable[[], bytes]) -> None:
    def write(directory: Path) -> None:
        directory.mkdir()
        (directory / "model.safetensors").write_bytes(make())

    write.__name__ = "safetensors_" + name
    case(opens=opens)(write)


def _sharding(value: Any) -> dict[str, Any]:
    text = value if isinstance(value, str) else json.dumps(value)
    return {"__metadata__": {"DCP_SHARDING_INFO": text, "DCP_VERSION": "1.0"}, "w": W}


_file("header_of_2_to_the_63", "limit-exceeded", lambda: blob(b"{}", size=1 << 63))
_file("header_of_a_gigabyte", "limit-exceeded", lambda: blob(b"{}", size=1 << 30))
_file("header_beyond_the_file", "truncated-file", lambda: blob(b"{}", size=100))
_file("empty_file", "truncated-file", lambda: b"")
_file("seven_bytes", "truncated-file", lambda: bytes(7))
_file("header_is_no_json", BAD, lambda: blob(b"{not json"))
_file("header_is_a_list", BAD, lambda: blob(b"[]"))
_file("header_is_a_pickle", BAD, lambda: blob(b"\x80\x04N."))
_file("header_is_not_utf_8", BAD, lambda: blob(b'{"\xff": 1}'))
_file(
    "header_nested_100_000_deep",
    BAD,
    lambda: blob(b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
)
_file(
    "header_of_two_million_brackets",
    "limit-exceeded",
    lambda: blob(b'{"w":[' + b"[]," * 2_000_000 + b"[]]}"),
)
_file(
    "header_with_a_key_twice",
    BAD,
    lambda: blob(b'{"w":' + json.dumps(W).encode() + b',"w":' + json.dumps(W).encode() + b"}"),
)
_file("header_with_nan", BAD, lambda: blob(b'{"w":NaN}'))
_file(
    "header_with_a_number_of_a_million_digits",
    BAD,
    lambda: blob(b'{"w":' + b"9" * 1_000_000 + b"}"),
)
_file("shape_of_floats", BAD, lambda: blob({"w": {**W, "shape": [2.0]}}))
_file("shape_negative", BAD, lambda: blob({"w": {**W, "shape": [-1, -2]}}))
_file("shape_of_2_to_the_62", BAD, lambda: blob({"w": {**W, "shape": [1 << 62, 1 << 62]}}))
_file("shape_of_2_to_the_64", BAD, lambda: blob({"w": {**W, "shape": [1 << 64]}}))
_file("shape_of_65_dims", BAD, lambda: blob({"w": {**W, "shape": [1] * 64 + [2]}}))
_file("offsets_reversed", BAD, lambda: blob({"w": {**W, "data_offsets": [8, 0]}}))
_file("offsets_beyond_the_file", "truncated-file", lambda: blob({"w": W}, data=b""))
_file(
    "offsets_overlap", BAD, lambda: blob({"w": W, "x": {**W, "data_offsets": [4, 12]}}, bytes(12))
)
_file(
    "offsets_leave_a_hole",
    BAD,
    lambda: blob({"w": W, "x": {**W, "data_offsets": [9, 17]}}, bytes(17)),
)
_file("dtype_unknown", "unknown-form", lambda: blob({"w": {**W, "dtype": "Q7"}}))
_file("dtype_is_a_list", BAD, lambda: blob({"w": {**W, "dtype": ["F32"]}}))
_file("tensor_is_a_number", BAD, lambda: blob({"w": 7}))
_file("metadata_of_numbers", BAD, lambda: blob({"__metadata__": {"a": 1}, "w": W}))
_file("sharding_is_no_json", BAD, lambda: blob(_sharding("{")))
_file("sharding_is_a_list", BAD, lambda: blob(_sharding([1])))
_file("sharding_of_another_rank", BAD, lambda: blob(_sharding({"w": {"saved_offsets": [0, 0]}})))
_file("sharding_of_negative_offsets", BAD, lambda: blob(_sharding({"w": {"saved_offsets": [-2]}})))
_file(
    "sharding_whose_end_overflows",
    BAD,
    lambda: blob(_sharding({"w": {"saved_offsets": [(1 << 63) - 1]}})),
)
_file("sharding_nested_deep", BAD, lambda: blob(_sharding('{"w":' + "[" * 100_000)))


@case(reads="malformed-item", finding="DCP103")
def safetensors_shard_at_2_to_the_62(directory: Path) -> None:
    directory.mkdir()
    data = blob(_sharding({"w": {"saved_offsets": [1 << 62]}}))
    (directory / "shard-00001-model-00001-of-00001.safetensors").write_bytes(data)


@case(opens="malformed-metadata")
def safetensors_shards_of_two_dtypes(directory: Path) -> None:
    directory.mkdir()
    (directory / "a.safetensors").write_bytes(blob(_sharding({"w": {"saved_offsets": [0]}})))
    other = _sharding({"w": {"saved_offsets": [2]}})
    other["w"] = {**W, "dtype": "I32"}
    (directory / "b.safetensors").write_bytes(blob(other))


@case(opens="malformed-metadata")
def safetensors_index_names_what_is_not_there(directory: Path) -> None:
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(blob({"w": W}))
    index = {"weight_map": {"w": "../../etc/passwd"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


@case(opens="malformed-metadata")
def safetensors_index_nested_deep(directory: Path) -> None:
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(blob({"w": W}))
    (directory / "model.safetensors.index.json").write_text("[" * 1_000_000)


@case(opens="limit-exceeded")
def safetensors_gigabyte_of_nothing_as_index(directory: Path) -> None:
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(blob({"w": W}))
    with (directory / "model.safetensors.index.json").open("wb") as file:
        file.truncate(1 << 30)


@case(opens="malformed-metadata")
def safetensors_gigabyte_of_nothing(directory: Path) -> None:
    directory.mkdir()
    with (directory / "model.safetensors").open("wb") as file:
        file.truncate(1 << 30)


@case(opens="path-outside-checkpoint")
def safetensors_symlink_outside(directory: Path) -> None:
    directory.mkdir()
    (directory.parent / "real.safetensors").write_bytes(blob({"w": W}))
    (directory / "model.safetensors").symlink_to("../real.safetensors")
