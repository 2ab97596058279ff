"""Pickles of tensor subclasses, as `Tensor.__reduce_ex__` writes them, and their archives."""

from __future__ import annotations

from tests.hostile.opcodes import text
from tests.test_formats.archives import Rec, Zip, contiguous


def _global(path: str) -> bytes:
    module, _, name = path.rpartition(".")
    return f"c{module}\n{name}\n".encode()


def _tuple(numbers: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(b"J" + number.to_bytes(4, "little") for number in numbers) + b"t"


def plain(shape: tuple[int, ...], key: str, storage: str) -> bytes:
    """Opcodes that push a plain tensor."""
    numel = 1
    for size in shape:
        numel *= size
    pid = text("storage") + _global(f"torch.{storage}") + text(key) + text("cpu")
    pid = b"(" + pid + b"J" + numel.to_bytes(4, "little") + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = pid + b"K\0" + _tuple(shape) + _tuple(contiguous(shape)) + b"\x89" + hooks
    return _global("torch._utils._rebuild_tensor_v2") + b"(" + arguments + b"tR"


def wrapper(
    kind: str,
    shape: tuple[int, ...] | None,
    inside: bytes = b"",
    *,
    dtype: str = "float32",
    **attributes: bytes,
) -> bytes:
    """The pickle of a wrapper subclass with these attributes.

    Args:
        kind: its class.
        shape: what it shows; None for a subclass of a plain tensor, which `inside` pushes.
        inside: opcodes of that tensor.
        dtype: what it shows.
        attributes: opcodes that push each.
    """
    if shape is None:
        function = _global("torch._utils._rebuild_tensor_v2")
        arguments = inside[len(function) : -1]
    else:
        function = _global("torch._utils._rebuild_wrapper_subclass")
        layout = _global("torch.serialization._get_layout") + b"(" + text("torch.strided") + b"tR"
        device = _global("torch.device") + b"(" + text("cpu") + b"tR"
        sizes = _tuple(shape) + _tuple(contiguous(shape))
        arguments = b"(" + _global(kind) + _global(f"torch.{dtype}") + sizes + b"K\0"
        arguments += layout + device + b"\x89t"
    state = b"}(" + b"".join(text(name) + value for name, value in attributes.items()) + b"u"
    call = _global("torch._tensor._rebuild_from_type_v2")
    return b"\x80\x02" + call + b"(" + function + _global(kind) + arguments + state + b"tR."


def wrapper_zip(pickle: bytes, *storages: bytes) -> Zip:
    """The archive of such a pickle."""
    records = [Rec("data.pkl", pickle), Rec("byteorder", b"little")]
    records += [Rec(f"data/{key}", data) for key, data in enumerate(storages)]
    return Zip([*records, Rec("version", b"3\n")])
