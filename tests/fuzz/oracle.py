"""What CPython's C unpickler and torch read, with nothing allowed that could act."""

from __future__ import annotations

import io
import pickle
import types
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint.filesystem
import torch.distributed.checkpoint.metadata
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorStorageMetadata,
)

from dcpctl.formats.pickles import policy
from dcpctl.formats.pickles.standins import DType, Opaque, Record, Size, TensorRef
from dcpctl.formats.records import StoredCheckpoint, StoredTensor
from dcpctl.formats.tensor_values import TensorValue

_BUILTINS = "bytes bytearray complex set frozenset list dict int float str tuple bool slice range"
_INERT = frozenset(
    path
    for path in policy.VALUES.table
    if path.startswith(("torch.", "collections.", "_codecs.", "pathlib."))
) | {f"builtins.{name}" for name in _BUILTINS.split()}


class Refused(Exception):
    """A global that is not inert, or that torch does not have."""


class Restricted(pickle.Unpickler):
    """The C unpickler; of globals it finds only what can do no harm."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _INERT:
            raise Refused(f"{module}.{name}")
        return super().find_class(module, name)


_MODULE = types.ModuleType("restricted")
_MODULE.__dict__.update(
    Unpickler=Restricted,
    load=lambda file, **options: Restricted(file, **options).load(),
    __name__="restricted",
)

Described = dict[str, Any]


def read_metadata(data: bytes) -> Described:
    """What torch takes out of a `.metadata`: keys, shapes, dtypes, chunks and places."""
    file = io.BytesIO(data)
    root = Restricted(file).load()
    if type(root) is not Metadata:
        raise Refused(f"a {type(root).__name__}")
    found: Described = {}
    for fqn, entry in root.state_dict_metadata.items():
        if type(entry) is BytesStorageMetadata:
            found[fqn] = ("bytes", _place(root, MetadataIndex(fqn)))
        elif type(entry) is TensorStorageMetadata:
            found[fqn] = ("tensor", *_tensor(root, fqn, entry))
        else:
            raise Refused(f"an entry of {type(entry).__name__}")
    return {"entries": found, "planner": _paths(root.planner_data, found)}


def _paths(planner: Any, entries: Described) -> Any:
    """The planner data, where torch finds a path in them (`dcp_to_torch_save`); else None."""
    if not isinstance(planner, dict):
        return None
    if planner.keys().isdisjoint(entries):
        return None
    # Whether a path is a list or a tuple is one to torch (`set_element`).
    return {key: tuple(path) if type(path) is list else path for key, path in planner.items()}


def _tensor(root: Any, fqn: str, entry: Any) -> tuple[Any, ...]:
    properties = entry.properties
    chunks = []
    for chunk in entry.chunks:
        if type(chunk) is not ChunkStorageMetadata:
            raise Refused(f"a chunk of {type(chunk).__name__}")
        offsets, sizes = chunk.offsets, chunk.sizes
        chunks.append((tuple(offsets), tuple(sizes), _place(root, MetadataIndex(fqn, offsets))))
    if not isinstance(properties.dtype, torch.dtype):
        raise Refused("a dtype that is none")
    head = (str(properties.dtype), str(properties.layout), properties.requires_grad)
    return (tuple(entry.size), *head, properties.pin_memory, chunks)


def _place(root: Any, index: Any) -> Any:
    info = root.storage_data.get(index)
    if info is None:
        return None
    transforms = tuple(getattr(info, "transform_descriptors", None) or ())
    return (info.relative_path, info.offset, info.length, transforms)


def described(stored: StoredCheckpoint) -> Described:
    """What dcpctl took out of it, in the same form."""
    found: Described = {}
    for fqn, entry in stored.entries.items():
        if not isinstance(entry, StoredTensor):
            place = (entry.offset, entry.length, entry.transforms)
            found[fqn] = ("bytes", (stored.files[entry.file], *place) if entry.file >= 0 else None)
            continue
        chunks = [
            (
                chunk.offsets,
                chunk.sizes,
                (stored.files[chunk.file], chunk.offset, chunk.length, entry.transforms)
                if chunk.file >= 0
                else None,
            )
            for chunk in entry.chunks
        ]
        head = (f"torch.{entry.dtype}", f"torch.{entry.layout}", entry.requires_grad)
        found[fqn] = ("tensor", entry.shape, *head, entry.pin_memory, chunks)
    return {"entries": found, "planner": _paths(stored.planner_data, found)}


def load_item(data: bytes, *, value: bool) -> Any:
    """`torch.load` as DCP calls it; of bytes entries with a restricted unpickler."""
    if value:
        options: dict[str, Any] = {"weights_only": False, "pickle_module": _MODULE}
        try:
            return torch.load(io.BytesIO(data), **options)
        except (RuntimeError, AssertionError) as error:
            # A storage on a device that torch knows and this machine has not.
            if "deserialize" not in str(error):
                raise
            return torch.load(io.BytesIO(data), map_location="cpu", **options)
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def same_tensor(array: np.ndarray[Any, Any], dtype: str, tensor: Any) -> bool:
    """Whether the numbers that dcpctl read are torch's, to the bit."""
    if isinstance(tensor, (torch.TypedStorage, torch.UntypedStorage)):
        kind = getattr(tensor, "dtype", torch.uint8)
        tensor = torch.empty(0, dtype=kind).set_(tensor)
    if (
        type(tensor) not in (torch.Tensor, torch.nn.Parameter)
        or str(tensor.dtype) != f"torch.{dtype}"
    ):
        return False
    if tuple(tensor.shape) != array.shape:
        return False
    if tensor.dtype == torch.bool:  # copy_ would make 1 of any byte that is not 0
        return bool(tensor.detach().numpy().tobytes() == array.tobytes())
    # Of one number any stride is contiguous, and a view as bytes asks for 1.
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype)
    flat.copy_(tensor.detach().resolve_conj().resolve_neg().reshape(-1))
    if not flat.numel() or flat.view(torch.uint8).numpy().tobytes() == array.tobytes():
        return True
    # Negated lazily, a NaN keeps its sign in torch's scalar loops and loses it in vector ones.
    lazy = tensor.is_neg() or tensor.is_conj()
    return lazy and flat.dtype != torch.complex32 and _same_numbers(array, flat)


def _same_numbers(array: np.ndarray[Any, Any], flat: torch.Tensor) -> bool:
    if flat.is_complex():
        ours = torch.view_as_real(torch.from_numpy(array.reshape(-1)))
        flat = torch.view_as_real(flat)
    else:  # NumPy's bfloat16 is none of torch's
        ours, flat = torch.from_numpy(array.reshape(-1).astype(np.float64)), flat.double()
    return torch.equal(torch.isnan(ours), torch.isnan(flat)) and torch.equal(
        ours.nan_to_num(0.0), flat.nan_to_num(0.0)
    )


def same_value(ours: Any, theirs: Any, depth: int = 0) -> bool:
    """Whether a value is what torch reads; what has no counterpart here is not compared."""
    if depth > 50 or isinstance(ours, (Opaque, Record, TensorRef)):
        return True
    if isinstance(ours, TensorValue):
        return same_tensor(ours.array, ours.dtype, theirs)
    if isinstance(ours, DType):
        return str(theirs) == f"torch.{ours.name}"
    if isinstance(ours, Size):
        return isinstance(theirs, torch.Size) and tuple(theirs) == tuple(ours)
    if type(ours) is float and type(theirs) is float:
        return ours == theirs or (ours != ours and theirs != theirs)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if len(ours) != len(theirs):
            return False
        pairs = zip(ours.items(), theirs.items(), strict=True)
        return all(
            same_value(a, x, depth + 1) and same_value(b, y, depth + 1) for (a, b), (x, y) in pairs
        )
    if type(ours) in (list, tuple) and type(ours) is type(theirs):
        pair = zip(ours, theirs, strict=False)
        return len(ours) == len(theirs) and all(same_value(a, b, depth + 1) for a, b in pair)
    if type(ours) in (int, bool, str, bytes, type(None), complex, set, frozenset, bytearray):
        return type(ours) is type(theirs) and bool(ours == theirs)
    return True
