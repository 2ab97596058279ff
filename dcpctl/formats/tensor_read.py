"""The numbers of a tensor, or of a box of it, from the bytes of its storage item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dcpctl.errors import UnknownForm
from dcpctl.formats import dtypes
from dcpctl.formats.pickles.standins import TensorRef
from dcpctl.formats.strided import StridedBytes
from dcpctl.storage.base import Storage

if TYPE_CHECKING:
    from dcpctl.formats.torch_zip import TorchItem


def read_box(
    item: TorchItem,
    ref: TensorRef,
    starts: Sequence[int] | None = None,
    stops: Sequence[int] | None = None,
) -> NDArray[Any]:
    """Read a box of a tensor in a torch.save archive.

    Any strides are read (transposed, channels_last); conjugate and negative bits are resolved.

    Args:
        item: the archive.
        ref: the tensor, from `item.tensor()` or out of `item.value()`.
        starts: first index per dimension; default 0.
        stops: index behind the last per dimension; default the shape.

    Returns:
        A new contiguous array of shape stops - starts in `dtypes.numpy_dtype(ref.dtype)`.

    Raises:
        ValueError: the box does not lie in the tensor.
        MalformedItem, UnknownForm: as `TorchItem.check_tensor`.
        As `Storage.read`.
    """
    record = item.check_tensor(ref)
    width = dtypes.itemsize(ref.dtype)
    source = StridedBytes(
        item.storage,
        item.file,
        record.data_offset + ref.storage_offset * width,
        dtypes.numpy_dtype(ref.dtype),
        tuple(stride * width for stride in ref.stride),
    )
    array = source.read(*_box(ref.shape, starts, stops))
    _resolve(array, ref, item.subject)
    return array


def read_raw_box(
    storage: Storage,
    file: str,
    offset: int,
    dtype: str,
    shape: Sequence[int],
    starts: Sequence[int] | None = None,
    stops: Sequence[int] | None = None,
) -> NDArray[Any]:
    """Read a box of a tensor that lies bare and contiguous in a file, as safetensors has it.

    Args:
        storage: where the file lies.
        file: its name.
        offset: byte offset of the tensor's first element.
        dtype: torch's name.
        shape: the whole tensor's shape.
        starts: as in `read_box`.
        stops: as in `read_box`.

    Returns:
        As `read_box`.

    Raises:
        ValueError: the box does not lie in the tensor.
        As `Storage.read`.
    """
    strides: list[int] = []
    step = dtypes.itemsize(dtype)
    for size in reversed(shape):
        strides.insert(0, step)
        step *= size
    source = StridedBytes(storage, file, offset, dtypes.numpy_dtype(dtype), tuple(strides))
    return source.read(*_box(shape, starts, stops))


def _box(
    shape: Sequence[int], starts: Sequence[int] | None, stops: Sequence[int] | None
) -> tuple[Sequence[int], Sequence[int]]:
    starts = [0] * len(shape) if starts is None else starts
    stops = shape if stops is None else stops
    inside = len(starts) == len(stops) == len(shape) and all(
        0 <= start <= stop <= size for start, stop, size in zip(starts, stops, shape, strict=True)
    )
    if not inside:
        raise ValueError(f"box {list(starts)} to {list(stops)} is not inside shape {list(shape)}")
    return starts, stops


def _resolve(array: NDArray[Any], ref: TensorRef, subject: str) -> None:
    """Apply the tensor's lazy bits in place (`torch._C._get_tensor_metadata`)."""
    kind = dtypes.info(ref.dtype).kind
    if (ref.conj and kind != "complex") or (ref.neg and kind not in ("complex", "float")):
        raise UnknownForm(f"{subject}: a conjugate or negative bit on {ref.dtype}")
    # complex32 is a pair of fields, for which NumPy has no arithmetic.
    parts = [array[field] for field in array.dtype.names or ()]
    if ref.conj and parts:
        np.negative(parts[1], out=parts[1])
    elif ref.conj:
        np.conjugate(array, out=array)
    if ref.neg:
        for part in parts or [array]:
            np.negative(part, out=part)
