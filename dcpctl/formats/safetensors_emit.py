"""Headers and indices of safetensors files, as `formats.safetensors` reads them.

The index is Hugging Face's (`model.safetensors.index.json`); `DCP_SHARDING_INFO` and `DCP_VERSION`
are torch's (torch/distributed/checkpoint/_hf_utils.py, 2.8).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dcpctl.errors import Refused, quote
from dcpctl.formats import dtypes

#: A header ends at a multiple of so many bytes, so that every tensor is aligned to its dtype.
_ALIGNED = 8
_DCP_VERSION = "1.0"


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor, or a box of one, in a file.

    Attributes:
        name: its key.
        dtype: torch's name without `torch.`.
        starts: first element of the box per dimension.
        sizes: elements of the box per dimension, as torch counts them.
    """

    name: str
    dtype: str
    starts: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.sizes) * dtypes.itemsize(self.dtype)


def emit_header(pieces: Sequence[Piece], metadata: Mapping[str, str], *, sharded: bool) -> bytes:
    """Return the length and the header of a file whose tensors follow each other without a hole.

    Args:
        pieces: in the order of their bytes; those of wider dtypes first, so that all are aligned.
        metadata: the free strings of `__metadata__`.
        sharded: write where each box lies in its tensor, as DCP does.

    Raises:
        Refused: safetensors has no such dtype.
    """
    said = dict(metadata)
    if sharded:
        boxes = {piece.name: {"saved_offsets": list(piece.starts)} for piece in pieces}
        said.setdefault("DCP_VERSION", _DCP_VERSION)
        said["DCP_SHARDING_INFO"] = json.dumps(boxes)
    header: dict[str, Any] = {"__metadata__": said} if said else {}
    at = 0
    for piece in pieces:
        code = dtypes.info(piece.dtype).safetensors
        if code is None:
            raise Refused(
                f"{quote(piece.name)} is {piece.dtype}, which safetensors cannot hold",
                hint="--to dcp writes a DCP checkpoint instead",
            )
        shape = list(piece.sizes)
        if piece.dtype == "float4_e2m1fn_x2":  # two numbers are one element of torch's
            shape[-1] *= 2
        header[piece.name] = {
            "dtype": code,
            "shape": shape,
            "data_offsets": [at, at + piece.nbytes],
        }
        at += piece.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
    data = text.encode("utf-8", "surrogatepass")
    data += b" " * (-len(data) % _ALIGNED)
    return len(data).to_bytes(8, "little") + data


def emit_index(
    files: Mapping[str, str], total_bytes: int, metadata: Mapping[str, Any] | None = None
) -> bytes:
    """Return a `model.safetensors.index.json`.

    Args:
        files: tensor name -> file name.
        total_bytes: of all tensors.
        metadata: what else the source's index says of itself.
    """
    said = {**(metadata or {}), "total_size": total_bytes}
    made = {"metadata": said, "weight_map": dict(files)}
    return (json.dumps(made, indent=2) + "\n").encode()
