"""Tensors that are no plain strided ones: what their pickles are made of, told by structure.

A tensor of a subclass is pickled as a call of `torch._tensor._rebuild_from_type_v2` with a function
that makes the tensor, its class, the function's arguments and the object's `__dict__`
(`Tensor.__reduce_ex__`). A wrapper subclass (torchao's weights and optimizer states, MX and float8
tensors, DTensor) has its numbers in tensors in that `__dict__`; `_make_wrapper_subclass` takes only
the dtype and shape that it shows. Quantized, sparse and nested tensors have functions of their own
in `torch/_utils.py`. None of the classes is known here by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dcpctl.formats.dtypes import itemsize
from dcpctl.formats.pickles.calls import span
from dcpctl.formats.pickles.standins import (
    DType,
    Global,
    Layout,
    Opaque,
    PackedTensor,
    Record,
    TensorRef,
)

Args = tuple[Any, ...]

#: Classes whose tensors are plain whatever attributes hang on them.
PLAIN_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
#: What the paths of torch's functions that make tensors begin with.
_REBUILDING = ("torch._utils._rebuild_", "torch.nested._internal.nested_tensor._rebuild_njt")
_MOST_PARTS = 2_000
_MOST_TENSORS = 64
_DEEPEST = 12


def from_type(args: Args) -> Any:
    """`torch._tensor._rebuild_from_type_v2`: function, class, arguments, state."""
    function, kind, given, state = args
    if not isinstance(kind, Global) or not isinstance(given, tuple):
        raise ValueError("a tensor without a class or arguments")
    made = None
    if isinstance(function, Global) and not function.opaque:
        # Of what is known only these make a tensor; another one would be called in disguise.
        if function.call is None or not function.path.startswith(_REBUILDING):
            raise ValueError("a tensor that is made by what makes none")
        made = function.call(given)
    if isinstance(made, TensorRef) and kind.path in PLAIN_CLASSES:
        return made
    if isinstance(made, TensorRef):
        return PackedTensor(kind.path, "", made.dtype, made.shape, ({"data": made}, state))
    if isinstance(made, PackedTensor):
        parts = (*made.parts, state)
        return PackedTensor(kind.path, "", made.dtype, made.shape, parts)
    return PackedTensor(kind.path, "", "", None, (given, state))


def wrapper_subclass(args: Args) -> PackedTensor:
    """`torch._utils._rebuild_wrapper_subclass` (torch 2.1): class, dtype, size; no numbers."""
    kind, dtype, size = args[:3]
    if not isinstance(kind, Global) or not isinstance(dtype, DType):
        raise ValueError("a wrapper without a class or dtype")
    return PackedTensor(kind.path, "", dtype.name, _shape(size), ())


def quantized(args: Args) -> PackedTensor:
    """`torch._utils._rebuild_qtensor`: storage, offset, size, stride, quantizer parameters."""
    storage, offset, size, stride, parameters = args[:5]
    if not isinstance(storage, TensorRef) or not isinstance(parameters, tuple):
        raise ValueError("a quantized tensor without a storage")
    shape, (first, *steps) = _shape(size), _shape((offset, *stride))
    if len(steps) != len(shape):
        raise ValueError("a tensor with other strides than dimensions")
    # Several numbers of fewer than 8 bits share a byte, by rules of their own.
    whole = storage.dtype not in ("quint4x2", "quint2x4")
    if whole and span(first, shape, tuple(steps)) > storage.storage_numel:
        raise ValueError(f"the tensor {storage.dtype}{list(shape)} is larger than its storage")
    named = dict(zip(("scheme", "scale", "zero_point", "axis"), parameters, strict=False))
    parts = ({"data": storage, **named},)
    return PackedTensor("torch.Tensor", "quantized", storage.dtype, shape, parts)


def sparse(args: Args) -> PackedTensor:
    """`torch._utils._rebuild_sparse_tensor`: layout and (indices, values, size, ...)."""
    layout, data = args
    if type(layout) is not Layout or not isinstance(data, tuple) or len(data) < 3:
        raise ValueError("a sparse tensor without indices and values")
    indices, values, size = data[:3] if layout == "sparse_coo" else data[1:4]
    held: dict[str, Any] = {"indices": indices, "values": values}
    if layout != "sparse_coo":
        held = {"compressed_indices": data[0], "plain_indices": indices, "values": values}
    dtype = values.dtype if isinstance(values, TensorRef) else ""
    return PackedTensor("torch.Tensor", layout, dtype, _shape(size), (held,))


def nested(args: Args) -> PackedTensor:
    """`torch._utils._rebuild_nested_tensor`: buffer, sizes, strides, storage offsets."""
    buffer, sizes, strides, offsets = args
    held = {"buffer": buffer, "sizes": sizes, "strides": strides, "offsets": offsets}
    dtype = buffer.dtype if isinstance(buffer, TensorRef) else ""
    return PackedTensor("torch.Tensor", "nested", dtype, None, (held,))


def jagged(args: Args) -> PackedTensor:
    """`torch.nested._internal.nested_tensor._rebuild_njt`: a dict of values, offsets, lengths."""
    (held,) = args
    if not isinstance(held, dict):
        raise ValueError("a jagged tensor without its parts")
    values = held.get("values")
    dtype = values.dtype if isinstance(values, (TensorRef, PackedTensor)) else ""
    return PackedTensor("torch.nested.NestedTensor", "", dtype, None, (held,))


def without_numbers(args: Args) -> PackedTensor:
    """`torch._utils._rebuild_meta_tensor_no_storage`: a tensor on the meta device."""
    dtype, size = args[:2]
    if not isinstance(dtype, DType):
        raise ValueError("a tensor without a dtype")
    return PackedTensor("torch.Tensor", "meta", dtype.name, _shape(size), ())


def _shape(size: Any) -> tuple[int, ...]:
    if not isinstance(size, tuple) or not all(type(n) is int and 0 <= n < 1 << 62 for n in size):
        raise ValueError("a tensor with a negative or huge size")
    return tuple(size)


def packed_in(value: Any) -> PackedTensor | None:
    """The packed tensor that a tensor item holds; None where it holds no tensor at all.

    A class that pickles itself in a way of its own is one if there are tensors in what it is
    rebuilt from.
    """
    if isinstance(value, PackedTensor):
        return value
    if isinstance(value, Opaque):
        made = PackedTensor(value.type, "", "", None, (value.args, value.state))
        return made if inner_tensors(made) else None
    return None


def inner_tensors(packed: PackedTensor) -> dict[str, TensorRef]:
    """The tensors inside a packed one, by the names of the attributes that first hold them."""
    found: dict[str, TensorRef] = {}
    left = _MOST_PARTS
    for part in packed.parts:
        for name, ref in _tensors(part, "", 0):
            left -= 1
            if ref is not None and ref not in found.values():
                name = name or "tensor"
                while name in found:
                    name += "'"
                found[name] = ref
            if len(found) == _MOST_TENSORS or left <= 0:
                return found
    return found


def _tensors(value: Any, name: str, depth: int) -> Iterator[tuple[str, TensorRef | None]]:
    """Every tensor in a value by its path; None for each part that is none, to count the work."""
    yield name, value if isinstance(value, TensorRef) else None
    if depth == _DEEPEST:
        return
    parts: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, PackedTensor):
        value = value.parts
        parts = (("", part) for part in value)
    elif isinstance(value, Mapping):
        parts = iter(value.items())
    elif isinstance(value, (list, tuple)):
        parts = iter(enumerate(value))
    elif isinstance(value, Opaque):
        parts = (("", part) for part in (*value.args, value.state))
    elif isinstance(value, Record):
        parts = iter(value.fields.items())
    for key, part in parts:
        yield from _tensors(part, ".".join(filter(None, (name, _word(key)))), depth + 1)


def _word(key: Any) -> str:
    return str(key) if type(key) in (str, int) else ""


def packed_bytes(packed: PackedTensor) -> int:
    """Bytes of the numbers that a packed tensor is made of; a storage counts once."""
    storages = {
        ref.key: ref.storage_numel * itemsize(ref.storage_dtype)
        for ref in inner_tensors(packed).values()
    }
    return sum(storages.values())


def logical_bytes(packed: PackedTensor) -> int | None:
    """Bytes of the tensor that a packed one shows; None where dtype or shape are not known."""
    if packed.shape is None or not packed.dtype:
        return None
    numbers = itemsize(packed.dtype)
    for size in packed.shape:
        numbers *= size
    return numbers
