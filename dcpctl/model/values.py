"""Decoded bytes entries as type names and JSON values."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dcpctl import limits
from dcpctl.errors import LimitExceeded
from dcpctl.formats.pickles.packed import inner_tensors
from dcpctl.formats.pickles.standard import MADE
from dcpctl.formats.pickles.standins import (
    Device,
    DType,
    Global,
    Opaque,
    PackedTensor,
    PlainValue,
    Record,
    Size,
    StorageType,
    TensorRef,
)
from dcpctl.formats.tensor_values import TensorValue

_MAX_BYTES = 64 << 10
_MAX_NODES = 1_000_000
#: Characters or bytes that count as one more part.
_TEXT_NODE = 64
_STANDINS: dict[type, str] = {
    Size: "torch.Size",
    DType: "torch.dtype",
    Device: "torch.device",
    TensorRef: "torch.Tensor",
    TensorValue: "torch.Tensor",
    OrderedDict: "collections.OrderedDict",
}
#: Values that are shown by their `repr`.
SHOWN_AS_THEY_ARE = (DType, Device, PlainValue, *MADE)


@dataclass(frozen=True, slots=True, eq=False)
class Unknown:
    """The value of what could not be read: neither None nor equal to anything, itself included.

    It is false, so that a condition which holds for some values only does not hold for it.

    Attributes:
        fqn: the entry that holds it.
        reason: why it is not known, a clause.
    """

    fqn: str
    reason: str

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return "unknown"


def type_name(value: Any) -> str:
    """The type that a value had when it was pickled, as `module.Class`.

    `Opaque` and `Record` say what class the pickle named; NumPy arrays are `numpy.ndarray`.
    """
    if isinstance(value, (Opaque, PackedTensor, PlainValue, Record)):
        return value.type
    if isinstance(value, (Global, StorageType)):
        return "builtins.type"
    kind = type(value)
    return _STANDINS.get(kind) or f"{kind.__module__}.{kind.__qualname__}"


def to_json(value: Any) -> Any:
    """A decoded value as JSON.

    Scalars, lists and dicts are themselves and tuples are lists. What JSON lacks is a dict with one
    tag, as in `{"__bytes_hex__": "00ff"}`, `{"__tensor__": {"dtype", "shape", "values"}}` or
    `{"__repr__": "torch.bfloat16", "__type__": "torch.dtype"}`; NaN and infinities are the strings
    `NaN`, `Infinity` and `-Infinity`; an opaque object is null, but for a member of an enum, which
    has its class and value as `__repr__`. A tensor of a subclass has its class and the tensors
    inside. What could not be read is `{"__unknown__": reason}`.

    Raises:
        LimitExceeded: the value is nested deeper than `limits.PICKLE_DEPTH`, refers to itself, or
            has more than a million parts when written out.
    """
    return _Encoder().encode(value, 0)


class _Encoder:
    def __init__(self) -> None:
        self.nodes = 0

    def encode(self, value: Any, depth: int) -> Any:
        self.nodes += 1
        if isinstance(value, (str, bytes, bytearray)):
            self.nodes += len(value) // _TEXT_NODE
        if depth > limits.PICKLE_DEPTH or self.nodes > _MAX_NODES:
            raise LimitExceeded(
                "a decoded value is nested too deeply or too large to be written out"
            )
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return _number(value)
        for kind, encode in _ENCODERS:
            if isinstance(value, kind):
                return encode(self, value, depth + 1)
        return None

    def sequence(self, value: Any, depth: int) -> Any:
        return [self.encode(item, depth) for item in value]

    def members(self, value: Any, depth: int) -> Any:
        return {"__set__": [self.encode(item, depth) for item in sorted(value, key=_key)]}

    def mapping(self, value: Any, depth: int) -> Any:
        return {
            key if isinstance(key, str) else _key(key): self.encode(item, depth)
            for key, item in value.items()
        }

    def raw(self, value: Any, depth: int) -> Any:
        shown: dict[str, Any] = {"__bytes_hex__": bytes(value[:_MAX_BYTES]).hex()}
        if len(value) > _MAX_BYTES:
            shown["__truncated__"] = len(value)
        return shown

    def complex(self, value: Any, depth: int) -> Any:
        return {"__complex__": [_number(value.real), _number(value.imag)]}

    def named(self, value: Any, depth: int) -> Any:
        return {"__repr__": repr(value), "__type__": type_name(value)}

    def packed(self, value: Any, depth: int) -> Any:
        inner = inner_tensors(value)
        shown = {
            "dtype": value.dtype or None,
            "shape": None if value.shape is None else list(value.shape),
            "values": None,
            "class": value.type,
            "form": value.form or None,
            "inner": {
                name: {"dtype": ref.dtype, "shape": list(ref.shape)} for name, ref in inner.items()
            },
        }
        return {"__tensor__": shown}

    def opaque(self, value: Any, depth: int) -> Any:
        return self.named(value, depth) if " " in repr(value) else None

    def record(self, value: Any, depth: int) -> Any:
        return {"__type__": value.type, **self.mapping(value.fields, depth)}

    def numbers(self, array: Any, depth: int) -> Any:
        if self.nodes + array.size > _MAX_NODES:
            raise LimitExceeded(f"an array of {array.size} numbers is too large to be written out")
        return self.encode(_plain_list(array), depth)

    def tensor(self, value: Any, depth: int) -> Any:
        values = self.numbers(value.array, depth)
        return {"__tensor__": {"dtype": value.dtype, "shape": list(value.shape), "values": values}}

    def tensor_ref(self, value: Any, depth: int) -> Any:
        return {"__tensor__": {"dtype": value.dtype, "shape": list(value.shape), "values": None}}

    def unknown(self, value: Any, depth: int) -> Any:
        return {"__unknown__": value.reason}

    def array(self, value: Any, depth: int) -> Any:
        values = self.numbers(value, depth)
        return {
            "__ndarray__": {"dtype": str(value.dtype), "shape": list(value.shape), "values": values}
        }


Encode = Callable[[_Encoder, Any, int], Any]


class _ArrayLike(type):
    """Matches NumPy arrays without importing NumPy."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return type(instance).__module__ == "numpy" and type(instance).__name__ == "ndarray"


class _Array(metaclass=_ArrayLike):
    pass


_ENCODERS: tuple[tuple[Any, Encode], ...] = (
    ((tuple, list, deque), _Encoder.sequence),
    (dict, _Encoder.mapping),
    ((bytes, bytearray), _Encoder.raw),
    (complex, _Encoder.complex),
    ((set, frozenset), _Encoder.members),
    ((*SHOWN_AS_THEY_ARE, StorageType, Global), _Encoder.named),
    (Opaque, _Encoder.opaque),
    (PackedTensor, _Encoder.packed),
    (TensorValue, _Encoder.tensor),
    (TensorRef, _Encoder.tensor_ref),
    (Record, _Encoder.record),
    (Unknown, _Encoder.unknown),
    (_Array, _Encoder.array),
)


def _plain_list(array: Any) -> Any:
    if array.dtype.kind in "biufc":
        return array.tolist()
    import numpy as np

    if array.dtype.names:  # complex32, which NumPy lacks, is a pair
        real, imaginary = (array[name].astype("float64") for name in array.dtype.names)
        return (real + 1j * imaginary).tolist()
    # bfloat16 and float8 become floats without loss; a signalling NaN is no reason to warn.
    with np.errstate(invalid="ignore"):
        return array.astype("float64").tolist()


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _key(key: Any) -> str:
    if isinstance(key, Record):
        return f"<{key.type}>"  # its fields may hold anything
    return repr(key) if isinstance(key, (tuple, Opaque, DType, bytes)) else str(key)
