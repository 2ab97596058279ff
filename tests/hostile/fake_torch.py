"""Stand-in torch classes that pickle under torch's names, so that tests need no torch.

The C pickler looks each class up in `sys.modules` while it writes; `as_torch` puts modules there
that hold these classes, and takes them out again.
"""

from __future__ import annotations

import enum
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_METADATA = "torch.distributed.checkpoint.metadata"
_FILESYSTEM = "torch.distributed.checkpoint.filesystem"


class Size(tuple):
    def __reduce__(self):
        return (Size, (tuple(self),))


class Dtype:
    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self):
        return self.name


Dtype.__module__ = "torch"
_DTYPES = {name: Dtype(name) for name in ("float32", "bfloat16", "int64", "uint8")}


def get_layout(text: str) -> str:
    return text


class _Layout:
    def __reduce__(self):
        return (get_layout, ("torch.strided",))


class MemoryFormat(enum.Enum):
    CONTIGUOUS = 0


class _Object:
    """A dataclass instance: its pickled state is its `__dict__`, in order."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def _plain(name: str, module: str) -> Any:
    return type(name, (_Object,), {"__module__": module})


Metadata = _plain("Metadata", _METADATA)
TensorStorageMetadata = _plain("TensorStorageMetadata", _METADATA)
BytesStorageMetadata = _plain("BytesStorageMetadata", _METADATA)
ChunkStorageMetadata = _plain("ChunkStorageMetadata", _METADATA)
MetadataIndex = _plain("MetadataIndex", _METADATA)
StorageInfo = _plain("_StorageInfo", _FILESYSTEM)


class TensorProperties(_Object):
    def __getstate__(self):
        return (self.dtype, _Layout(), False, MemoryFormat.CONTIGUOUS, False)


TensorProperties.__module__ = _METADATA


def dtype(name: str) -> Dtype:
    """`torch.float32` and the like."""
    return _DTYPES[name]


def _modules() -> dict[str, ModuleType]:
    names = ["torch", "torch.serialization", "torch.distributed", "torch.distributed.checkpoint"]
    made = {name: ModuleType(name) for name in [*names, _METADATA, _FILESYSTEM]}
    made["torch"].__dict__.update(Size=Size, **_DTYPES)
    made["torch.serialization"].__dict__["_get_layout"] = get_layout
    for kind in (
        *(Metadata, TensorStorageMetadata, BytesStorageMetadata, ChunkStorageMetadata),
        *(MetadataIndex, TensorProperties),
    ):
        made[_METADATA].__dict__[kind.__name__] = kind
    made[_METADATA].__dict__["_MEM_FORMAT_ENCODING"] = MemoryFormat
    made[_FILESYSTEM].__dict__["_StorageInfo"] = StorageInfo
    return made


Size.__module__ = "torch"
get_layout.__module__, get_layout.__qualname__ = "torch.serialization", "_get_layout"
get_layout.__name__ = "_get_layout"
MemoryFormat.__module__ = _METADATA
MemoryFormat.__name__ = MemoryFormat.__qualname__ = "_MEM_FORMAT_ENCODING"


@contextmanager
def as_torch() -> Iterator[None]:
    """Let the classes above be found under torch's names."""
    made = _modules()
    hidden = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in hidden.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def dumps(value: Any, protocol: int = 4) -> bytes:
    """`pickle.dumps` by the C pickler, with the classes above under torch's names."""
    with as_torch():
        return pickle.dumps(value, protocol)
