"""Small tensors inside bytes entries as values: `step`, RNG state, a learning rate."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from dcpctl import limits
from dcpctl.errors import LimitExceeded, UnknownForm
from dcpctl.formats.dtypes import itemsize
from dcpctl.formats.pickles.standins import Record, TensorRef
from dcpctl.formats.tensor_read import read_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dcpctl.formats.torch_zip import TorchItem

#: What a tensor takes off the budget at least, for the time that reading it takes.
_LEAST_COST = 4 << 10
#: Characters or bytes that count as one more value.
_TEXT_NODE = 64


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


def materialize(value: Any, *, subject: str, item: TorchItem | None = None) -> Any:
    """Put a `TensorValue` in the place of each small enough `TensorRef` in `value`.

    Without `item`, the archive that holds their numbers, tensors stay refs. Lists and dicts are
    changed in place, tuples made anew. Tensors count against a budget of
    `limits.VALUE_BYTES` in all; those beyond it, or over `limits.SMALL_TENSOR_BYTES`, stay refs.

    Whoever walks the result needs no care: it does not contain itself, is at most
    `limits.PICKLE_DEPTH` deep, and even where it shares parts it is not large when written out.

    Raises:
        LimitExceeded: it is deeper, or written out has more than `limits.VALUE_NODES` values.
        UnknownForm: it contains itself.
        As `TorchItem.check_tensor` and `tensor_read.read_box`.
    """
    found = _Materializer(subject, item).visit(value, 0)
    return value if found.made is found.original else found.made


class _Seen(NamedTuple):
    """A visited value.

    Attributes:
        original: what the pickle had; kept, or its id could be given to another object.
        made: what takes its place.
        height: levels of containers in it.
        nodes: values in it, counted as often as they are written out.
    """

    original: Any
    made: Any
    height: int
    nodes: int


#: Stands for every number and every other value that is nothing but itself.
_SCALAR = _Seen(None, None, 0, 1)


class _Materializer:
    def __init__(self, subject: str, item: TorchItem | None) -> None:
        self.subject = subject
        self.item = item
        self.budget = limits.VALUE_BYTES
        self.seen: dict[int, _Seen | None] = {}

    def visit(self, value: Any, depth: int) -> _Seen:
        if isinstance(value, (str, bytes)) and len(value) >= _TEXT_NODE:
            return _Seen(value, value, 0, 1 + len(value) // _TEXT_NODE)
        if not isinstance(value, (TensorRef, Record, tuple, list, dict, deque)):
            return _SCALAR
        if id(value) in self.seen:
            known = self.seen[id(value)]
            if known is None:
                raise UnknownForm(f"{self.subject}: a {type(value).__name__} in itself")
            return known
        if depth >= limits.PICKLE_DEPTH:
            raise self.too_deep()
        self.seen[id(value)] = None
        if isinstance(value, TensorRef):
            found = _Seen(value, self.tensor(value), 0, 1)
        elif isinstance(value, Record):
            found = self.container(value, value.fields, [*value.fields.values()], depth)
        elif isinstance(value, dict):
            found = self.container(value, value, [*value.values()], depth)
        else:
            found = self.container(value, value, value, depth)
        self.seen[id(value)] = found
        return found

    def container(
        self, original: Any, holder: dict[Any, Any] | Sequence[Any], parts: Any, depth: int
    ) -> _Seen:
        """Visit the parts and put what was made of them into `holder`, or into a new tuple."""
        seen = [self.visit(part, depth + 1) for part in parts]
        height = 1 + max((part.height for part in seen), default=0)
        nodes = 1 + sum(part.nodes for part in seen)
        if isinstance(holder, dict):
            nodes += sum(len(key) // _TEXT_NODE + 1 for key in holder if isinstance(key, str))
        if height > limits.PICKLE_DEPTH:
            raise self.too_deep()
        if nodes > limits.VALUE_NODES:
            raise LimitExceeded(f"{self.subject}: written out it has over {nodes} values")
        changed = [n for n, part in enumerate(seen) if part.made is not part.original]
        if changed and isinstance(holder, tuple):
            made = tuple(
                old if new.made is new.original else new.made
                for old, new in zip(parts, seen, strict=True)
            )
            return _Seen(original, made, height, nodes)
        keys = list(holder) if changed and isinstance(holder, dict) else None
        for number in changed:
            # Only lists, deques and dicts come here; tuples were made anew above.
            cast("Any", holder)[keys[number] if keys else number] = seen[number].made
        return _Seen(original, original, height, nodes)

    def too_deep(self) -> LimitExceeded:
        return LimitExceeded(
            f"{self.subject}: a value nested over {limits.PICKLE_DEPTH} levels deep"
        )

    def tensor(self, ref: TensorRef) -> TensorValue | TensorRef:
        size = math.prod(ref.shape) * itemsize(ref.dtype)
        if self.item is None or size > min(limits.SMALL_TENSOR_BYTES, self.budget):
            return ref
        self.budget -= max(size, _LEAST_COST)
        return TensorValue(ref.dtype, ref.shape, read_box(self.item, ref))
