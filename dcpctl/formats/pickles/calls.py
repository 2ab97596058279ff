"""What the known callables of a pickle make of their arguments: passive values, nothing else.

Each takes the argument tuple of a REDUCE or NEWOBJ and raises ValueError for arguments that no
writer gives it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dcpctl.errors import quote
from dcpctl.formats.dtypes import DTYPES, info
from dcpctl.formats.pickles.standins import (
    Device,
    DType,
    Global,
    Layout,
    MemoryFormat,
    PathText,
    Size,
    StorageRef,
    StorageType,
    TensorRef,
)
from dcpctl.formats.pickles.torch_names import torch_names

Args = tuple[Any, ...]

#: Devices that torch knows by name (`torch/csrc/api`, `c10/core/DeviceType.cpp`), and the backends
#: of others that rename its private one. `meta` is none of them: it keeps no numbers.
DEVICES = frozenset(
    (
        *("cpu", "cuda", "hip", "xpu", "mps", "hpu", "mtia", "xla", "lazy", "vulkan", "ve", "fpga"),
        *("maia", "ipu", "mkldnn", "opengl", "opencl", "ideep", "privateuseone"),
        *("npu", "mlu", "musa", "gcu", "sdaa", "supa", "rbln", "tpu", "ppu"),
    )
)


def size(args: Args) -> Size:
    """`torch.Size`: a tuple of integers."""
    (dims,) = args
    if not isinstance(dims, (tuple, list)) or not all(type(dim) is int for dim in dims):
        raise ValueError("torch.Size of other than integers")
    return Size(dims)


def _text(args: Args) -> str:
    (text,) = args
    if type(text) is not str:  # a layout or a device is told by a string too
        raise ValueError("not a string")
    return text


def layout(args: Args) -> Layout:
    """`torch.serialization._get_layout`: `torch.strided` to `strided`."""
    text = _text(args)
    name = text.removeprefix("torch.")
    if name not in torch_names().layouts or name == text:
        raise ValueError(f"torch has no layout {quote(text)}")
    return Layout(name)


def enum_value(path: str) -> Callable[[Args], int]:
    """A member of one of torch's enums by its value."""
    members = torch_names().enums[path]

    def make(args: Args) -> int:
        (value,) = args
        if type(value) is not int or value not in members:
            raise ValueError("torch's enum has no such member")
        return value

    return make


def memory_format(path: str) -> Callable[[Args], MemoryFormat]:
    """DCP's `_MEM_FORMAT_ENCODING`: 0 contiguous, 1 channels_last, 2 preserve."""
    member = enum_value(path)
    return lambda args: MemoryFormat(member(args))


def counted(path: str, call: Callable[[Args], Any]) -> Callable[[Args], Any]:
    """The function, refusing numbers of arguments that torch's does in every release."""
    fewest, most = torch_names().calls.get(path, (0, None))

    def checked(args: Args) -> Any:
        if len(args) < fewest or (most is not None and len(args) > most):
            takes = f"{fewest} to {most}" if most != fewest else f"{fewest}"
            raise ValueError(f"{len(args)} of them, it takes {takes}")
        return call(args)

    return checked if path in torch_names().calls else call


def device(args: Args) -> Device:
    """`torch.device`: kind and, perhaps, index, as it pickles itself (`THPDevice_reduce`)."""
    kind, *index = args
    if type(kind) is not str:  # nor shown: what nests is as long as it likes
        raise ValueError("torch.device of other than a name and a small number")
    if kind not in DEVICES and kind != "meta":
        raise ValueError(f"torch has no device {quote(kind[:40])}")
    # torch keeps the index in 8 bits: a larger one comes back as another.
    if len(index) > 1 or not all(type(number) is int and 0 <= number < 128 for number in index):
        raise ValueError("torch.device of other than a name and a small number")
    return Device(":".join((kind, *map(str, index))))


def make_path(args: Args) -> PathText:
    """A `pathlib` path: its parts joined."""
    parts = [_text((part,)) for part in args]
    if parts and parts[0] == "/":
        return PathText("/" + "/".join(parts[1:]))
    return PathText("/".join(parts))


def ordered_dict(args: Args) -> OrderedDict[Any, Any]:
    """`collections.OrderedDict`, empty or of pairs."""
    if not args:
        return OrderedDict()
    (pairs,) = args
    made: OrderedDict[Any, Any] = OrderedDict()
    for key, value in pairs:
        made[_text((key,))] = value
    return made


def default_dict(args: Args) -> dict[Any, Any]:
    """`collections.defaultdict` as a plain dict."""
    # The factory is dropped: a default is behaviour, and a decoded value has none.
    if len(args) > 1:
        raise ValueError("a defaultdict with more than a factory")
    if args and not (args[0] is None or isinstance(args[0], Global)):
        raise ValueError("a defaultdict whose factory is nothing that can be called")
    return {}


def codecs_encode(args: Args) -> bytes:
    """`_codecs.encode`: how protocol 2 writes bytes."""
    text, encoding = args
    if encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an encoding that pickle does not use")
    return _text((text,)).encode("latin-1")


def empty_or_list(kind: Callable[[list[Any]], Any]) -> Callable[[Args], Any]:
    """A set or frozenset of scalars."""

    def make(args: Args) -> Any:
        items = args[0] if args else []
        if not isinstance(items, list):
            raise ValueError("not a list")
        return kind(items)

    return make


def make_bytes(args: Args) -> bytes:
    """`bytes`, empty or of bytes."""
    if not args:
        return b""
    if len(args) == 1 and isinstance(args[0], bytes):
        return args[0]
    raise ValueError("bytes of other than bytes")


def make_bytearray(args: Args) -> bytearray:
    """`bytearray` of bytes or of text and encoding."""
    return bytearray(codecs_encode(args) if len(args) == 2 else make_bytes(args))


def make_complex(args: Args) -> complex:
    """`complex` of two numbers."""
    real, imag = args
    return complex(float(real), float(imag))


def rebuild_tensor_v2(args: Args) -> TensorRef:
    """`torch._utils._rebuild_tensor_v2` (torch 1.0): storage, offset, size, stride, grad, hooks."""
    storage, offset, shape, stride, requires_grad, hooks = args[:6]
    if isinstance(storage, StorageRef):
        if storage.storage_class == "UntypedStorage":
            raise ValueError("a tensor without a dtype")
        if info(storage.storage_dtype).kind == "quantized":
            raise ValueError(f"a plain tensor of {storage.storage_dtype}")
    return _tensor(storage, offset, shape, stride, (requires_grad, hooks), None, args[6:])


def rebuild_tensor_v3(args: Args) -> TensorRef:
    """`torch._utils._rebuild_tensor_v3` (torch 2.1): as v2, with the dtype spelled out."""
    storage, offset, shape, stride, requires_grad, hooks, dtype = args[:7]
    if not isinstance(dtype, DType):
        raise ValueError("a tensor whose dtype is none")
    if isinstance(storage, StorageRef) and storage.storage_class != "UntypedStorage":
        raise ValueError("a tensor whose storage has a dtype too")
    if requires_grad is True:
        # It sets the storage of a leaf in place (`torch/_utils.py`, 2.1 to 2.13), which fails.
        raise ValueError(f"a tensor of {dtype.name} that requires gradients, which torch refuses")
    return _tensor(storage, offset, shape, stride, (requires_grad, hooks), dtype, args[7:])


def _tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    stride: Any,
    autograd: tuple[Any, Any],
    dtype: DType | None,
    rest: Args,
) -> TensorRef:
    if not isinstance(storage, StorageRef):
        raise ValueError("a tensor without a storage")
    if type(shape) not in (tuple, Size) or type(stride) is not tuple:
        raise ValueError("a tensor whose size or stride is no tuple")
    for numbers in ((offset,), shape, stride):
        if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers):
            raise ValueError("a tensor with a negative or huge size")
    if len(shape) != len(stride):
        raise ValueError("a tensor with other strides than dimensions")
    requires_grad, hooks = autograd
    if type(requires_grad) is not bool or type(hooks) is not OrderedDict or hooks:
        raise ValueError("a tensor with hooks, or without requires_grad")
    # `torch._utils.get_tensor_metadata` writes the lazy bits that are set, and nothing for none.
    metadata = rest[0] if rest else {}
    if len(rest) > 1 or type(metadata) is not dict or not set(metadata) <= {"conj", "neg"}:
        raise ValueError(f"a tensor with {len(rest)} arguments more than torch writes")
    if not all(bit is True for bit in metadata.values()):
        raise ValueError("a lazy bit that is not set")
    name = dtype.name if dtype is not None else storage.dtype
    _check_gradient(name, requires_grad)
    held = storage.storage_numel * info(storage.storage_dtype).itemsize
    needed = span(offset, shape, stride) * info(name).itemsize
    if needed > held:
        # torch refuses to make the storage larger; whoever only reads on would not see it.
        raise ValueError(
            f"the tensor {name}{list(shape)} needs {needed} bytes, its storage has {held}"
        )
    return TensorRef(
        dtype=name,
        shape=tuple(shape),
        stride=tuple(stride),
        storage_offset=offset,
        key=storage.key,
        storage_numel=storage.storage_numel,
        storage_dtype=storage.storage_dtype,
        device=storage.device,
        requires_grad=requires_grad,
        conj="conj" in metadata,
        neg="neg" in metadata,
    )


def _check_gradient(dtype: str, requires_grad: bool) -> None:
    if requires_grad and info(dtype).kind not in ("float", "complex"):
        raise ValueError(f"a tensor of {dtype} that requires gradients, which torch refuses")


def span(offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Elements of a storage up to the last that a tensor shows; 0 for a tensor of none."""
    if 0 in shape:
        return 0
    steps = [(size - 1) * step for size, step in zip(shape, stride, strict=True)]
    return offset + sum(steps) + 1


def parameter(args: Args) -> TensorRef:
    """`torch._utils._rebuild_parameter`: the tensor in it, with the parameter's own flag."""
    tensor, requires_grad, hooks = args
    if type(tensor) is not TensorRef:
        raise ValueError("a parameter without a tensor")
    if type(requires_grad) is not bool or type(hooks) is not OrderedDict or hooks:
        raise ValueError("a parameter with hooks, or without requires_grad")
    _check_gradient(tensor.dtype, requires_grad)
    return replace(tensor, requires_grad=requires_grad)


def parameter_with_state(args: Args) -> TensorRef:
    """`torch._utils._rebuild_parameter_with_state` (2.0): one with attributes, which are left."""
    *plain, _state = args
    return parameter(tuple(plain))


def storage_from_persistent_id(key: Any) -> StorageRef:
    """Turn torch.save's persistent id into the storage that a tensor is rebuilt on.

    Args:
        key: `("storage", storage type, key, location, numel)`, as `torch.serialization` writes it
            since 1.6.

    Returns:
        The whole storage.

    Raises:
        ValueError: the id has another form.
    """
    if type(key) is not tuple or len(key) != 5 or key[0] != "storage":
        raise ValueError("a persistent id that is no storage")
    _tag, kind, name, location, numel = key
    if not isinstance(kind, StorageType) or type(numel) is not int:
        raise ValueError("a storage without type or size")
    if type(name) is not str or type(location) is not str:
        raise ValueError("a storage without key or location")
    dtype = STORAGE_DTYPES.get(kind.name)
    if dtype is None or not 0 <= numel < 1 << 62:
        raise ValueError("a storage of unknown type or of negative or huge size")
    if not _LOCATION.fullmatch(location):
        raise ValueError(f"torch has no device {quote(location)}")
    return StorageRef(
        dtype, (numel,), (1,), 0, name, numel, dtype, device=location, storage_class=kind.name
    )


class Storages:
    """Reads the persistent ids of one pickle.

    Attributes:
        found: key -> the storage under it.
    """

    def __init__(self) -> None:
        self.found: dict[str, StorageRef] = {}

    def __call__(self, key: Any) -> StorageRef:
        """As `storage_from_persistent_id`; a ValueError also if two ids contradict each other."""
        ref = storage_from_persistent_id(key)
        if self.found.setdefault(ref.key, ref) != ref:
            # torch takes the first type for all tensors on the storage.
            raise ValueError(f"storage {quote(ref.key)} has two types, sizes or devices")
        return ref


#: Where torch says that a storage was; names of private backends have no list.
_LOCATION = re.compile(r"[a-z][a-z0-9]{1,15}(:[0-9]{1,3})?", re.ASCII)
#: Storage class name -> dtype of its elements; `UntypedStorage` counts bytes (torch 2.0).
STORAGE_DTYPES: dict[str, str] = {
    info.storage_class: name for name, info in DTYPES.items() if info.storage_class
} | {"UntypedStorage": "uint8"}
