"""Small tensors inside bytes entries as values: `step`, RNG state, a learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dcpctl import limits
from dcpctl.formats.dtypes import itemsize
from dcpctl.formats.pickles.standins import TensorRef
from dcpctl.formats.tensor_read import read_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dcpctl.formats.torch_zip import TorchItem

#: What a tensor takes off the budget at least, for the time that reading it takes.
_LEAST_COST = 4 << 10


@dataclass(frozen=True, slots=True, eq=False)
class TensorValue:
    """A decoded tensor.

    Attributes:
        dtype: torch's name without `torch.`.
        shape: elements per dimension.
        array: the numbers, in `dtypes.numpy_dtype(dtype)`, contiguous.
    """

    dtype: str
    shape: tuple[int, ...]
    array: NDArray[Any]


def materialize(item: TorchItem, value: Any) -> Any:
    """Put a `TensorValue` in the place of each small enough `TensorRef` in `value`.

    Lists and dicts are changed in place, tuples made anew. Tensors count against a budget of
    `limits.VALUE_BYTES` in all; those beyond it, or over `limits.SMALL_TENSOR_BYTES`, stay refs.

    Raises:
        As `TorchItem.check_tensor` and `tensor_read.read_box`.
    """
    return _Materializer(item).convert(value)


class _Materializer:
    def __init__(self, item: TorchItem) -> None:
        self.item = item
        self.budget = limits.VALUE_BYTES
        # Shared and recursive values are visited once. The original is kept beside its
        # replacement, or its id could be given to another object.
        self.done: dict[int, tuple[Any, Any]] = {}

    def convert(self, value: Any) -> Any:
        if not isinstance(value, (TensorRef, tuple, list, dict)):
            return value
        if id(value) in self.done:
            return self.done[id(value)][1]
        made: Any = value
        if isinstance(value, TensorRef):
            made = self.tensor(value)
        elif isinstance(value, tuple):
            parts = [self.convert(part) for part in value]
            if any(new is not old for new, old in zip(parts, value, strict=True)):
                made = tuple(parts)
        else:
            self.done[id(value)] = (value, value)
            pairs = list(enumerate(value)) if isinstance(value, list) else list(value.items())
            for key, part in pairs:
                new = self.convert(part)
                if new is not part:
                    value[key] = new
        self.done[id(value)] = (value, made)
        return made

    def tensor(self, ref: TensorRef) -> TensorValue | TensorRef:
        size = math.prod(ref.shape) * itemsize(ref.dtype)
        if size > min(limits.SMALL_TENSOR_BYTES, self.budget):
            return ref
        self.budget -= max(size, _LEAST_COST)
        array = read_box(self.item, ref)
        return TensorValue(ref.dtype, ref.shape, array)
