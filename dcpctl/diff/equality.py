"""Whether two decoded values are one value."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from dcpctl.formats.pickles.standins import Opaque, PackedTensor, Record, TensorRef
from dcpctl.formats.tensor_values import TensorValue
from dcpctl.model.fqn import is_index
from dcpctl.model.values import Unknown, type_name


def equal_values(a: Any, b: Any) -> bool | None:
    """Say whether two decoded values are equal, types and all; None where it cannot be told.

    NaN equals NaN. It cannot be told of what could not be read, nor of objects that dcpctl does
    not decode, where all else is equal.
    """
    certain = True
    pending = [(a, b)]
    while pending:
        one, other = pending.pop()
        if isinstance(one, Unknown) or isinstance(other, Unknown):
            certain = False
            continue
        if isinstance(one, (Opaque, PackedTensor, TensorRef)) and isinstance(other, type(one)):
            if type_name(one) != type_name(other):
                return False
            certain = False
            continue
        parts = _parts(one, other)
        if parts is None:
            return False
        pending += parts
    return True if certain else None


def with_names(value: Any, names: Mapping[str, str]) -> Any:
    """Return a value with other names of parameters in it: strings, indices and keys of dicts.

    An index is a number in the lists of an optimizer, and a string in `names` as in its keys.
    """
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        name = names.get(str(value))
        if name is None:
            return value
        return int(name) if is_index(name) else name
    if type(value) in (list, tuple):
        return type(value)(with_names(part, names) for part in value)
    if isinstance(value, dict):
        return {with_names(key, names): with_names(part, names) for key, part in value.items()}
    return value


def _parts(one: Any, other: Any) -> list[tuple[Any, Any]] | None:
    """What must be equal for two values to be; None where they are not."""
    if type_name(one) != type_name(other) or type(one) is not type(other):
        return None
    if isinstance(one, Record):
        if one.fields.keys() != other.fields.keys() or len(one.args) != len(other.args):
            return None
        pairs = [(part, other.fields[key]) for key, part in one.fields.items()]
        return pairs + list(zip(one.args, other.args, strict=True))
    if isinstance(one, dict):
        if list(one) != list(other):  # the order is part of an OrderedDict, and kept in all
            return None
        return [(part, other[key]) for key, part in one.items()]
    if isinstance(one, (list, tuple, deque)):
        return list(zip(one, other, strict=True)) if len(one) == len(other) else None
    if isinstance(one, TensorValue):
        return _array_parts(one.array, other.array) if one.dtype == other.dtype else None
    if type(one).__module__ == "numpy":
        return _array_parts(one, other)
    return [] if one is other or one == other or (one != one and other != other) else None


def _array_parts(one: Any, other: Any) -> list[tuple[Any, Any]] | None:
    same = one.dtype == other.dtype and one.shape == other.shape
    return [] if same and one.tobytes() == other.tobytes() else None
