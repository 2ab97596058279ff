"""The header of a safetensors file, or of a safetensors blob inside a shard file.

A blob is 8 bytes of header length, a JSON header, and the tensors' bare bytes. torch writes such
files from 2.8 on, with the shards' offsets in `DCP_SHARDING_INFO`
(`torch/distributed/checkpoint/_hf_utils.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

from dcpctl import limits
from dcpctl.documents.parsing import integers, parse_json
from dcpctl.errors import LimitExceeded, MalformedMetadata, TruncatedFile, UnknownForm, quote
from dcpctl.formats.dtypes import BY_SAFETENSORS
from dcpctl.storage.base import Storage

_LENGTH_BYTES = 8
_SHARDING_KEY = "DCP_SHARDING_INFO"


@dataclass(frozen=True, slots=True)
class SafetensorsTensor:
    """One tensor of a blob.

    Attributes:
        name: its key.
        dtype: torch's name without `torch.`.
        shape: elements per dimension, as torch counts them (two float4 numbers are one element).
        offset: byte offset of its first element in the file.
        length: bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class SafetensorsHeader:
    """What a blob's header says.

    Attributes:
        tensors: every tensor by name, in header order.
        metadata: the free strings of `__metadata__`.
        saved_offsets: for a DCP shard, tensor name -> first element of the shard per dimension;
            None where the header has no `DCP_SHARDING_INFO`.
        data_offset: byte offset in the file at which the tensors' bytes begin.
        end: byte offset behind the last of them. A file may be longer, which only a writer that
            broke off or something appended explains.
    """

    tensors: dict[str, SafetensorsTensor]
    metadata: dict[str, str]
    saved_offsets: dict[str, tuple[int, ...]] | None
    data_offset: int
    end: int


def read_header(storage: Storage, name: str, *, offset: int = 0, subject: str) -> SafetensorsHeader:
    """Read and check a safetensors header.

    Args:
        storage: where the file lies.
        name: the file.
        offset: byte offset of the blob in it: 0 for a safetensors file; in a shard file with
            `SerializationFormat.SAFETENSORS` the offset of each of its tensor items.
        subject: the file, for messages; already quoted.

    Raises:
        MalformedMetadata: a header that is no JSON object, doubled keys, sizes that contradict
            each other, tensors that overlap or leave holes, offsets of the wrong rank.
        UnknownForm: a dtype that torch does not have.
        TruncatedFile: the file ends inside the header or the tensors.
        LimitExceeded: a header of over `limits.SAFETENSORS_HEADER_BYTES`.
        MissingFile, PathOutsideCheckpoint, ReadFailed: as `Storage.read`.
    """
    return _HeaderReader(storage, name, offset, subject).read()


def read_index(data: bytes, subject: str) -> dict[str, str]:
    """Return the `weight_map` of a `model.safetensors.index.json`: tensor name -> file name.

    Raises:
        MalformedMetadata: no JSON object, or one without a map of strings to strings.
        LimitExceeded: as `documents.parsing.parse_json`.
    """
    weights = parse_json(data, subject).get("weight_map")
    if not isinstance(weights, dict) or not all(isinstance(v, str) for v in weights.values()):
        raise MalformedMetadata(f"{subject}: no 'weight_map' of tensor names to file names")
    return weights


class _HeaderReader:
    def __init__(self, storage: Storage, name: str, offset: int, subject: str) -> None:
        self.storage = storage
        self.name = name
        self.offset = offset
        self.subject = subject

    def fail(self, what: str) -> NoReturn:
        raise MalformedMetadata(f"{self.subject}: malformed safetensors header: {what}")

    def read(self) -> SafetensorsHeader:
        size = int.from_bytes(self.storage.read(self.name, self.offset, _LENGTH_BYTES), "little")
        if size > limits.SAFETENSORS_HEADER_BYTES:
            raise LimitExceeded(f"{self.subject}: a safetensors header of {size} bytes")
        data = self.storage.read(self.name, self.offset + _LENGTH_BYTES, size)
        # The library asks for this too: a file of another kind shall not pass by chance.
        if not data.startswith(b"{"):
            self.fail("it does not begin with '{'")
        parsed = parse_json(data, self.subject)
        metadata = self._metadata(parsed.pop("__metadata__", {}))
        base = self.offset + _LENGTH_BYTES + size
        tensors = {key: self._tensor(key, value, base) for key, value in parsed.items()}
        end = self._tiled(tensors, base)
        held = self.storage.size(self.name)
        if end > held:
            raise TruncatedFile(
                f"{self.subject} has {held} bytes, its safetensors header describes {end}"
            )
        return SafetensorsHeader(tensors, metadata, self._sharding(metadata, tensors), base, end)

    def _metadata(self, value: Any) -> dict[str, str]:
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            self.fail("'__metadata__' is no map of strings to strings")
        return value

    def _tensor(self, key: str, value: Any, base: int) -> SafetensorsTensor:
        if not isinstance(value, dict) or not {"dtype", "shape", "data_offsets"} <= value.keys():
            self.fail(f"tensor {quote(key)} has no dtype, shape or data_offsets")
        shape, span, code = (
            integers(value["shape"]),
            integers(value["data_offsets"]),
            value["dtype"],
        )
        if shape is None or span is None or len(span) != 2 or not isinstance(code, str):
            self.fail(f"tensor {quote(key)} has a dtype, shape or data_offsets of the wrong kind")
        if len(shape) > limits.TENSOR_DIMS:
            self.fail(f"tensor {quote(key)} has {len(shape)} dimensions")
        dtype = BY_SAFETENSORS.get(code)
        if dtype is None:
            raise UnknownForm(f"{self.subject}: tensor {quote(key)} has the dtype {quote(code)}")
        if dtype.name == "float4_e2m1fn_x2":
            if not shape or shape[-1] % 2:
                self.fail(f"tensor {quote(key)} of 4-bit numbers does not fill its last byte")
            shape = (*shape[:-1], shape[-1] // 2)
        start, stop = span
        if stop - start != math.prod(shape) * dtype.itemsize:
            self.fail(
                f"tensor {quote(key)} takes {math.prod(shape) * dtype.itemsize} bytes as "
                f"{dtype.name}{list(shape)}, but has {stop - start}"
            )
        return SafetensorsTensor(key, dtype.name, shape, base + start, stop - start)

    def _tiled(self, tensors: dict[str, SafetensorsTensor], base: int) -> int:
        """See that the tensors follow each other without overlap and hole; return their end."""
        position = base
        for tensor in sorted(tensors.values(), key=lambda t: (t.offset, t.length)):
            if tensor.offset != position:
                what = "overlaps the one before it" if tensor.offset < position else "leaves a hole"
                self.fail(f"tensor {quote(tensor.name)} at byte {tensor.offset - base} {what}")
            position += tensor.length
        return position

    def _sharding(
        self, metadata: dict[str, str], tensors: dict[str, SafetensorsTensor]
    ) -> dict[str, tuple[int, ...]] | None:
        text = metadata.get(_SHARDING_KEY)
        if text is None:
            return None
        found: dict[str, tuple[int, ...]] = {}
        parsed = parse_json(
            text.encode("utf-8", "surrogatepass"), f"{self.subject} {_SHARDING_KEY}"
        )
        for key, value in parsed.items():
            offsets = integers(value.get("saved_offsets")) if isinstance(value, dict) else None
            if offsets is None or len(offsets) > limits.TENSOR_DIMS:
                self.fail(f"{_SHARDING_KEY} has no saved_offsets for {quote(key)}")
            if key in tensors and len(offsets) != len(tensors[key].shape):
                self.fail(
                    f"{_SHARDING_KEY} has {len(offsets)} offsets for {quote(key)}, which has "
                    f"{len(tensors[key].shape)} dimensions"
                )
            found[key] = offsets
        return found
