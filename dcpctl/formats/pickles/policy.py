"""Which globals a pickle may refer to, and the passive value that each becomes.

Two policies: `METADATA` for `.metadata`, where an unknown global is refused by name, and `VALUES`
for bytes entries and tensor items, where it becomes an `Opaque`. The tables are the whole of what
is allowed; a new DCP release or framework is a new line here.
"""

from __future__ import annotations

import _compat_pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dcpctl.errors import MalformedPickle, UnsafePickle, quote
from dcpctl.formats.dtypes import DTYPES
from dcpctl.formats.pickles import calls, numpy_values, packed, standard
from dcpctl.formats.pickles.calls import Args
from dcpctl.formats.pickles.imports import is_class_name
from dcpctl.formats.pickles.standins import (
    DType,
    Global,
    PackedTensor,
    Record,
    StorageType,
)
from dcpctl.formats.pickles.torch_names import torch_names

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
_MEMORY_FORMATS = (
    "torch.distributed._shard.sharded_tensor.metadata.MEM_FORMAT_ENCODING",  # 1.13 - 2.2
    "torch.distributed.checkpoint.metadata._MEM_FORMAT_ENCODING",  # 2.3
)
_ENUMS = (
    "torch.distributed.checkpoint.planner.WriteItemType",
    "torch.distributed.checkpoint.planner.LoadItemType",
)
_PATHS = tuple(
    f"{module}.{name}"
    for module in ("pathlib", "pathlib._local")  # Python 3.13 writes the second
    for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath")
)
_TYPE_ONLY = ("list", "dict", "int", "float", "str", "tuple", "bool", "object", "type")
#: What pickle itself calls to make an object; `object_ops` sees what is made by it.
_PICKLES_OWN = (
    "copyreg._reconstructor",
    "copyreg.__newobj__",
    "copyreg.__newobj_ex__",
    "builtins.getattr",
)


def _metadata_table() -> dict[str, Any]:
    table: dict[str, Any] = {}
    names = torch_names()
    for module in _METADATA_MODULES:
        for name, columnar in _METADATA_CLASSES.items():
            path = f"{module}.{name}"
            if path in names.classes:
                table[path] = Global(path, record=True, columnar=columnar)
    for module in _STORAGE_INFO_MODULES:
        path = f"{module}._StorageInfo"
        table[path] = Global(path, record=True, columnar="storage")
    for path in _OTHER_RECORDS:
        table[path] = Global(path, record=True)
    for path in _MEMORY_FORMATS:
        table[path] = Global(path, call=calls.memory_format(path))
    for path in _ENUMS:
        table[path] = Global(path, call=calls.enum_value(path))
    for path in _PATHS:
        table[path] = Global(path, call=calls.make_path)
    for name in DTYPES.keys() & names.dtypes.keys():
        table[f"torch.{name}"] = DType(name)
    # A type that is named but never called, as the factory of a defaultdict is.
    for name in _TYPE_ONLY:
        table[f"builtins.{name}"] = Global(f"builtins.{name}")
    known: dict[str, Callable[[Args], Any]] = {
        "torch.Size": calls.size,
        "torch.device": calls.device,
        "torch.serialization._get_layout": calls.layout,
        "collections.OrderedDict": calls.ordered_dict,
        "collections.defaultdict": calls.default_dict,
        "_codecs.encode": calls.codecs_encode,
        "builtins.bytes": calls.make_bytes,
        "builtins.bytearray": calls.make_bytearray,
        "builtins.complex": calls.make_complex,
    }
    for path, call in known.items():
        table[path] = Global(path, call=call)
    for kind in (set, frozenset):
        path = f"builtins.{kind.__name__}"
        table[path] = Global(path, call=calls.empty_or_list(kind), hashes=True)
    return table


def _values_table() -> dict[str, Any]:
    table = _metadata_table()
    names = torch_names()
    for name in calls.STORAGE_DTYPES:
        module = "torch.storage" if name == "UntypedStorage" else "torch"
        if f"{module}.{name}" in names.storages:
            table[f"{module}.{name}"] = StorageType(name)
    known: dict[str, Callable[[Args], Any]] = {
        "torch._utils._rebuild_tensor_v2": calls.rebuild_tensor_v2,
        "torch._utils._rebuild_tensor_v3": calls.rebuild_tensor_v3,
        "torch._utils._rebuild_parameter": calls.parameter,
        "torch._utils._rebuild_parameter_with_state": calls.parameter_with_state,
        "torch._tensor._rebuild_from_type_v2": packed.from_type,
        "torch._utils._rebuild_wrapper_subclass": packed.wrapper_subclass,
        "torch._utils._rebuild_qtensor": packed.quantized,
        "torch._utils._rebuild_sparse_tensor": packed.sparse,
        "torch._utils._rebuild_nested_tensor": packed.nested,
        "torch._utils._rebuild_meta_tensor_no_storage": packed.without_numbers,
        "torch.nested._internal.nested_tensor._rebuild_njt": packed.jagged,
        "numpy.dtype": numpy_values.dtype,
        "numpy.core.multiarray.scalar": numpy_values.scalar,
        "numpy._core.multiarray.scalar": numpy_values.scalar,
        "numpy.core.multiarray._reconstruct": numpy_values.reconstruct,
        "numpy._core.multiarray._reconstruct": numpy_values.reconstruct,
    }
    known |= standard.calls()
    for path, call in known.items():
        table[path] = Global(path, call=calls.counted(path, call))
    # Classes that torch allows under weights_only, of which no more is known than their name.
    for path in names.safe.keys() - names.storages.keys() - table.keys():
        if is_class_name(path):
            table[path] = Global(path, call=standard.named(path))
    for path in standard.RECORDS:
        table[path] = Global(path, call=known[path], record=True)
    for path in (
        *packed.PLAIN_CLASSES,
        *_PICKLES_OWN,
        "numpy.ndarray",
        "zoneinfo.ZoneInfo",
        *(f"torch.{scheme}" for scheme in names.qschemes),
    ):
        table[path] = Global(path)
    return table | standard.CONSTANTS


def spelled(module: str, name: str) -> str:
    """`module.name` of a global as Python 3 spells it; up to protocol 2, pickles spell it as 2."""
    module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
    return f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a pickle may refer to.

    Attributes:
        table: `module.name` -> `Global` or the constant that the global stands for.
        lenient: an unknown global becomes an `Opaque` instead of an error.
        columnar: runs of chunk and storage records may be decoded as blocks.
        restricted: only the opcodes that torch's weights_only unpickler has.
    """

    table: Mapping[str, Any]
    lenient: bool = False
    columnar: bool = False
    restricted: bool = False

    def find(self, module: str, name: str, subject: str) -> Any:
        """Resolve one global; raise `UnsafePickle` by name if it is unknown and not lenient."""
        path = spelled(module, name)
        known = self.table.get(path)
        if known is not None:
            return known
        if self.lenient:
            return Global(path, opaque=True)
        raise UnsafePickle(
            f"{subject} refers to {quote(path)}, which no DCP release writes; not loaded",
            hint="nothing of it was executed; do not load this checkpoint with torch, which would",
        )

    def build(self, target: Any, state: Any, subject: str) -> Any:
        """BUILD on a value that is no record: refused, except on what may have attributes."""
        # Nothing is set on a plain tensor or its hooks: torch would take the state for the tensor.
        known = isinstance(target, dict) and type(state) is dict and self is not TENSORS
        if known and (self.lenient or isinstance(target, OrderedDict)):
            # torch hangs `_metadata` on the OrderedDict of Module.state_dict(); it is not data.
            return target
        if self.lenient and isinstance(target, PackedTensor):
            return target
        raise MalformedPickle(f"{subject}: state is set on a {type(target).__name__}")

    def finish(self, record: Record) -> Any:
        """The value of a record whose state is complete: a NumPy array, a UUID."""
        if record.type == "uuid.UUID":
            return standard.finished_uuid(record)
        if record.type != "numpy.ndarray":
            return record
        _version, shape, dtype, fortran, raw = record.fields["__state__"]
        return numpy_values.array(dtype, shape, raw, fortran=bool(fortran))


METADATA = Policy(_metadata_table(), columnar=True, restricted=True)
VALUES = Policy(_values_table(), lenient=True)
#: For tensor entries, which torch loads with weights_only from 2.4 on.
TENSORS = replace(VALUES, restricted=True)
