"""Which globals a pickle may refer to, and the passive value that each becomes.

Two policies: `METADATA` for `.metadata`, where an unknown global is refused by name, and `VALUES`
for bytes entries and tensor items, where it becomes an `Opaque`. The tables are the whole of what
is allowed; a new DCP release or framework is a new line here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dcpctl.errors import MalformedPickle, UnsafePickle, quote
from dcpctl.formats.dtypes import DTYPES
from dcpctl.formats.pickles.standins import (
    Device,
    DType,
    Global,
    Opaque,
    Record,
    Size,
    StorageType,
    TensorRef,
)

Args = tuple[Any, ...]

# -- what a known callable does --------------------------------------------------------------------


def _size(args: Args) -> Size:
    (dims,) = args
    if not isinstance(dims, (tuple, list)) or not all(type(dim) is int for dim in dims):
        raise ValueError("torch.Size of other than integers")
    return Size(dims)


def _text(args: Args) -> str:
    (text,) = args
    if not isinstance(text, str):
        raise ValueError("not a string")
    return text


def _layout(args: Args) -> str:
    return _text(args).removeprefix("torch.")


def _enum_value(args: Args) -> int:
    (value,) = args
    if type(value) is not int:
        raise ValueError("an enum value that is no integer")
    return value


def _device(args: Args) -> Device:
    # A list that repeats a list many levels deep takes for ever to write out.
    if not all(type(arg) in (str, int) for arg in args):
        raise ValueError("torch.device of other than a name and a number")
    return Device(":".join(str(arg) for arg in args))


def _path(args: Args) -> str:
    parts = [_text((part,)) for part in args]
    if parts and parts[0] == "/":
        return "/" + "/".join(parts[1:])
    return "/".join(parts)


def _ordered_dict(args: Args) -> OrderedDict[Any, Any]:
    if not args:
        return OrderedDict()
    (pairs,) = args
    made: OrderedDict[Any, Any] = OrderedDict()
    for key, value in pairs:
        made[_text((key,))] = value
    return made


def _default_dict(args: Args) -> dict[Any, Any]:
    # The factory is dropped: a default is behaviour, and a decoded value has none.
    if len(args) > 1:
        raise ValueError("a defaultdict with more than a factory")
    return {}


def _codecs_encode(args: Args) -> bytes:
    text, encoding = args
    if encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an encoding that pickle does not use")
    return _text((text,)).encode("latin-1")


def _empty_or_list(kind: Callable[[list[Any]], Any]) -> Callable[[Args], Any]:
    def make(args: Args) -> Any:
        items = args[0] if args else []
        if not isinstance(items, list):
            raise ValueError("not a list")
        return kind(items)

    return make


def _bytes(args: Args) -> bytes:
    if not args:
        return b""
    if len(args) == 1 and isinstance(args[0], bytes):
        return args[0]
    raise ValueError("bytes of other than bytes")


def _bytearray(args: Args) -> bytearray:
    return bytearray(_codecs_encode(args) if len(args) == 2 else _bytes(args))


def _complex(args: Args) -> complex:
    real, imag = args
    return complex(float(real), float(imag))


def _rebuild_tensor_v2(args: Args) -> TensorRef:
    """`torch._utils._rebuild_tensor_v2` (torch 1.0): storage, offset, size, stride, grad, hooks."""
    storage, offset, shape, stride, requires_grad = args[:5]
    metadata = args[6] if len(args) > 6 and isinstance(args[6], dict) else {}
    return _tensor(storage, offset, shape, stride, requires_grad, None, metadata)


def _rebuild_tensor_v3(args: Args) -> TensorRef:
    """`torch._utils._rebuild_tensor_v3` (torch 2.1): as v2, with the dtype spelled out."""
    storage, offset, shape, stride, requires_grad, _hooks, dtype = args[:7]
    metadata = args[7] if len(args) > 7 and isinstance(args[7], dict) else {}
    return _tensor(storage, offset, shape, stride, requires_grad, dtype, metadata)


def _tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    stride: Any,
    requires_grad: Any,
    dtype: Any,
    metadata: dict[Any, Any],
) -> TensorRef:
    if not isinstance(storage, TensorRef):
        raise ValueError("a tensor without a storage")
    if dtype is not None and not isinstance(dtype, DType):
        raise ValueError("a tensor whose dtype is none")
    for numbers in ((offset,), shape, stride):
        if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers):
            raise ValueError("a tensor with a negative or huge size")
    if len(shape) != len(stride):
        raise ValueError("a tensor with other strides than dimensions")
    return TensorRef(
        dtype=dtype.name if dtype is not None else storage.dtype,
        shape=tuple(shape),
        stride=tuple(stride),
        storage_offset=offset,
        key=storage.key,
        storage_numel=storage.storage_numel,
        storage_dtype=storage.storage_dtype,
        device=storage.device,
        requires_grad=bool(requires_grad),
        conj=bool(metadata.get("conj", False)),
        neg=bool(metadata.get("neg", False)),
    )


def _parameter(args: Args) -> TensorRef:
    tensor = args[0]
    if not isinstance(tensor, TensorRef):
        raise ValueError("a parameter without a tensor")
    return tensor


def storage_from_persistent_id(key: Any) -> TensorRef:
    """Turn torch.save's persistent id into the storage that a tensor is rebuilt on.

    Args:
        key: `("storage", storage type, key, location, numel)`, as `torch.serialization` writes it
            since 1.6.

    Returns:
        A 1-d `TensorRef` over the whole storage.

    Raises:
        ValueError: the id has another form.
    """
    if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage":
        raise ValueError("a persistent id that is no storage")
    _tag, kind, name, location, numel = key[:5]
    if not isinstance(kind, StorageType) or type(numel) is not int:
        raise ValueError("a storage without type or size")
    if type(name) is not str or type(location) is not str:
        raise ValueError("a storage without key or location")
    dtype = STORAGE_DTYPES.get(kind.name)
    if dtype is None or not 0 <= numel < 1 << 62:
        raise ValueError("a storage of unknown type or of negative or huge size")
    return TensorRef(dtype, (numel,), (1,), 0, name, numel, dtype, device=location)


#: Storage class name -> dtype of its elements; `UntypedStorage` counts bytes (torch 2.0).
STORAGE_DTYPES: dict[str, str] = {
    info.storage_class: name for name, info in DTYPES.items() if info.storage_class
} | {"UntypedStorage": "uint8"}

# -- numpy, in bytes entries -----------------------------------------------------------------------


def _numpy_dtype(args: Args) -> Record:
    name = _text((args[0],))
    return Record("numpy.dtype", {"name": name})


def _numpy_scalar(args: Args) -> Any:
    dtype, raw = args
    array = _numpy_array(dtype, (), raw)
    return array if isinstance(array, Opaque) else array.item()


def _numpy_reconstruct(args: Args) -> Record:
    return Record("numpy.ndarray", {})


def _numpy_array(dtype: Any, shape: Any, raw: Any, *, fortran: bool = False) -> Any:
    """An array of plain numbers, or an `Opaque` for dtypes that hold anything else."""
    import numpy as np

    state = dtype.fields.get("__state__") if isinstance(dtype, Record) else None
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "|"
    code = str(dtype.fields.get("name")) if isinstance(dtype, Record) else ""
    if not isinstance(raw, bytes) or order not in ("<", ">", "|", "=") or code not in _NUMBERS:
        return Opaque("numpy.ndarray")
    # An order of "|" is that of single bytes, which have none.
    flat = np.frombuffer(raw, dtype=np.dtype(code if order == "|" else f"{order}{code}"))
    return flat.reshape(shape, order="F" if fortran else "C")


_NUMBERS = frozenset(
    ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
)


# -- tables ----------------------------------------------------------------------------------------

_METADATA_MODULES = (
    "torch.distributed._shard.checkpoint.metadata",  # 1.13
    "torch.distributed.checkpoint.metadata",  # 2.0
)
_METADATA_CLASSES = {
    "Metadata": "",
    "TensorStorageMetadata": "",
    "BytesStorageMetadata": "",
    "ChunkStorageMetadata": "chunk",
    "MetadataIndex": "index",
    "StorageMeta": "",  # 2.4
    "TensorProperties": "",  # 2.3; before it in _shard.sharded_tensor.metadata
}
_STORAGE_INFO_MODULES = (
    "torch.distributed._shard.checkpoint.filesystem",  # 1.13
    "torch.distributed.checkpoint.filesystem",  # 2.0
    "torch.distributed.checkpoint._fsspec_filesystem",  # FsspecWriter of 2.1 and 2.2
    "olmo_core.distributed.checkpoint.filesystem",  # OLMo-core's own storage writer
    "bytecheckpoint.checkpointer.meta_type",  # ByteCheckpoint 0.0.3
)
_OTHER_RECORDS = (
    "torch.distributed._shard.sharded_tensor.metadata.TensorProperties",  # 1.13 - 2.2
    "torch.distributed._shard.sharded_tensor.metadata.ShardedTensorMetadata",
    "torch.distributed._shard.metadata.ShardMetadata",
    "bytecheckpoint.checkpointer.meta_type.Metadata",  # ByteCheckpoint 0.0.3
    # Megatron-LM's torch_dist keeps each rank's plan in the attribute `all_local_plans`.
    "megatron.core.dist_checkpointing.strategies.torch.MCoreMetadata",  # 0.15
    "megatron.core.dist_checkpointing.strategies.torch.MCoreSavePlan",
    "torch.distributed.checkpoint.planner.SavePlan",
    "torch.distributed.checkpoint.planner.WriteItem",
    "torch.distributed.checkpoint.planner.TensorWriteData",
    "torch.distributed.checkpoint.planner.BytesIOWriteData",
    "torch.distributed.checkpoint.planner.LoadPlan",
    "torch.distributed.checkpoint.planner.ReadItem",
    "torch.distributed.checkpoint.filesystem._StoragePrefix",
)
_ENUMS = (
    "torch.distributed._shard.sharded_tensor.metadata.MEM_FORMAT_ENCODING",  # 1.13 - 2.2
    "torch.distributed.checkpoint.metadata._MEM_FORMAT_ENCODING",  # 2.3
    "torch.distributed.checkpoint.planner.WriteItemType",
    "torch.distributed.checkpoint.planner.LoadItemType",
)
_PATHS = tuple(
    f"{module}.{name}"
    for module in ("pathlib", "pathlib._local")  # Python 3.13 writes the second
    for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath")
)
_TYPE_ONLY = ("list", "dict", "int", "float", "str", "tuple", "bool", "object", "type")


def _metadata_table() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for module in _METADATA_MODULES:
        for name, columnar in _METADATA_CLASSES.items():
            path = f"{module}.{name}"
            table[path] = Global(path, record=True, columnar=columnar)
    for module in _STORAGE_INFO_MODULES:
        path = f"{module}._StorageInfo"
        table[path] = Global(path, record=True, columnar="storage")
    for path in _OTHER_RECORDS:
        table[path] = Global(path, record=True)
    for path in _ENUMS:
        table[path] = Global(path, call=_enum_value)
    for path in _PATHS:
        table[path] = Global(path, call=_path)
    for name in DTYPES:
        table[f"torch.{name}"] = DType(name)
    # A type that is named but never called, as the factory of a defaultdict is.
    for name in _TYPE_ONLY:
        table[f"builtins.{name}"] = Global(f"builtins.{name}")
    calls: dict[str, Callable[[Args], Any]] = {
        "torch.Size": _size,
        "torch.device": _device,
        "torch.serialization._get_layout": _layout,
        "collections.OrderedDict": _ordered_dict,
        "collections.defaultdict": _default_dict,
        "_codecs.encode": _codecs_encode,
        "builtins.bytes": _bytes,
        "builtins.bytearray": _bytearray,
        "builtins.complex": _complex,
    }
    for path, call in calls.items():
        table[path] = Global(path, call=call)
    for kind in (set, frozenset):
        path = f"builtins.{kind.__name__}"
        table[path] = Global(path, call=_empty_or_list(kind), hashes=True)
    return table


def _values_table() -> dict[str, Any]:
    table = _metadata_table()
    for name in STORAGE_DTYPES:
        for module in ("torch", "torch.storage"):
            table[f"{module}.{name}"] = StorageType(name)
    calls: dict[str, Callable[[Args], Any]] = {
        "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
        "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
        "torch._utils._rebuild_parameter": _parameter,
        "numpy.dtype": _numpy_dtype,
        "numpy.core.multiarray.scalar": _numpy_scalar,
        "numpy._core.multiarray.scalar": _numpy_scalar,
        "numpy.core.multiarray._reconstruct": _numpy_reconstruct,
        "numpy._core.multiarray._reconstruct": _numpy_reconstruct,
    }
    for path, call in calls.items():
        table[path] = Global(path, call=call)
    table["numpy.ndarray"] = Global("numpy.ndarray")
    return table


@dataclass(frozen=True, slots=True)
class Policy:
    """What a pickle may refer to.

    Attributes:
        table: `module.name` -> `Global` or the constant that the global stands for.
        lenient: an unknown global becomes an `Opaque` instead of an error.
        columnar: runs of chunk and storage records may be decoded as blocks.
    """

    table: Mapping[str, Any]
    lenient: bool = False
    columnar: bool = False

    def find(self, module: str, name: str, subject: str) -> Any:
        """Resolve one global; raise `UnsafePickle` by name if it is unknown and not lenient."""
        # Protocol 2 spells builtins as Python 2 did.
        path = f"{'builtins' if module == '__builtin__' else module}.{name}"
        known = self.table.get(path)
        if known is not None:
            return known
        if self.lenient:
            return Global(path, opaque=True)
        raise UnsafePickle(
            f"{subject} refers to {quote(path)}, which no DCP release writes; not loaded",
            hint="nothing of it was executed; do not load this checkpoint with torch, which would",
        )

    def opaque_call(self, path: str, args: Args) -> Any:
        """The result of calling an unknown global: an `Opaque` of the class it would make."""
        if path in ("copyreg._reconstructor", "copy_reg._reconstructor") and args:
            target = args[0]
            return Opaque(target.path if isinstance(target, Global) else str(path))
        return Opaque(path)

    def build(self, target: Any, state: Any, subject: str) -> Any:
        """BUILD on a value that is no record: refused, except on an ordered dict."""
        if isinstance(target, dict) and (self.lenient or isinstance(target, OrderedDict)):
            # torch hangs `_metadata` on the OrderedDict of Module.state_dict(); it is not data.
            return target
        raise MalformedPickle(f"{subject}: state is set on a {type(target).__name__}")

    def finish(self, record: Record) -> Any:
        """The value of a record whose state is complete: a NumPy array for `numpy.ndarray`."""
        if record.type != "numpy.ndarray":
            return record
        _version, shape, dtype, fortran, raw = record.fields["__state__"]
        return _numpy_array(dtype, shape, raw, fortran=bool(fortran))


METADATA = Policy(_metadata_table(), columnar=True)
VALUES = Policy(_values_table(), lenient=True)
