"""NumPy's arrays, scalars and dtypes in a pickle.

NumPy takes what the pickle says of a dtype as it stands (`arraydescr_setstate` and `array_setstate`
in `numpy/_core/src/multiarray`): fields that lie outside, objects whose pointers are bytes of the
file, a list that is too short. Loading such an array reads or writes memory that is not its own, so
every dtype is compared with what NumPy's own pickles say of it.
"""

from __future__ import annotations

import math
import re
from typing import Any

from dcpctl.formats.pickles.standins import Opaque, Record

Args = tuple[Any, ...]

_NUMBERS = frozenset(
    ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
)
#: Numbers that Python has none of: long double, and its complex numbers.
_WIDE = {"f12": 12, "f16": 16, "c24": 24, "c32": 32, "m8": 8, "M8": 8}
_TEXT = re.compile(r"([SUVa])([0-9]{1,9})")
_OBJECTS = ("O8", "O4")
#: Flags of a dtype (`NPY_OBJECT_DTYPE_FLAGS`): of objects, and those that say that some are inside.
_OBJECT_FLAGS, _HOLDS_OBJECTS = 63, 3
_DEEPEST = 8
_MALFORMED = "a dtype that NumPy does not write"


def dtype(args: Args) -> Record:
    """`numpy.dtype` by its name."""
    name = args[0]
    if type(name) is not str:
        raise ValueError("not a string")
    return Record("numpy.dtype", {"name": name})


def scalar(args: Args) -> Any:
    """A NumPy scalar as a Python number."""
    kind, raw = args
    if _size(kind)[1]:
        raise ValueError("a NumPy scalar that is an object")
    made = array(kind, (), raw)
    return made if isinstance(made, Opaque) else made.item()


def reconstruct(args: Args) -> Record:
    """`numpy.ndarray` before its state is set."""
    return Record("numpy.ndarray", {})


def array(kind: Any, shape: Any, raw: Any, *, fortran: bool = False) -> Any:
    """An array of plain numbers, or an `Opaque` for dtypes that hold anything else.

    Raises:
        ValueError: the dtype is none that NumPy writes, or the data are not as many as it says.
    """
    import numpy as np

    size, objects = _size(kind)
    if type(shape) is not tuple or not all(type(dim) is int and dim >= 0 for dim in shape):
        raise ValueError("an array of a shape that is none")
    held = len(raw) if type(raw) is (list if objects else bytes) else -1
    if held != math.prod(shape) * (1 if objects else size):
        raise ValueError("an array of other than its data")
    code = kind.fields["name"]
    if code not in _NUMBERS:
        return Opaque("numpy.ndarray")
    state = kind.fields.get("__state__")
    order = state[1] if state is not None else "|"
    # An order of "|" is that of single bytes, which have none.
    flat = np.frombuffer(raw, dtype=np.dtype(code if order == "|" else f"{order}{code}"))
    return flat.reshape(shape, order="F" if fortran else "C")


def _size(kind: Any, depth: int = 0) -> tuple[int, bool]:
    """Bytes of one element, and whether objects are among what it holds."""
    if not isinstance(kind, Record) or kind.type != "numpy.dtype" or depth > _DEEPEST:
        raise ValueError(_MALFORMED)
    code, state = kind.fields["name"], kind.fields.get("__state__")
    if state is None:
        state = (3, "|", None, None, None, -1, -1, 0)
    if type(state) is not tuple or len(state) not in (8, 9) or state[1] not in ("<", ">", "|", "="):
        raise ValueError(_MALFORMED)
    inner, numbers = state[2:5], state[5:8]
    if not all(type(number) is int for number in numbers):
        raise ValueError(_MALFORMED)
    if code in _NUMBERS or code in _WIDE or code in _OBJECTS:
        flags = _OBJECT_FLAGS if code in _OBJECTS else 0
        if inner != (None, None, None) or numbers != (-1, -1, flags):
            raise ValueError(_MALFORMED)
        return _WIDE.get(code) or int(code[1:]), code in _OBJECTS
    found = _TEXT.fullmatch(code)
    if found is None:
        raise ValueError(_MALFORMED)
    size, _alignment, flags = numbers
    if size != int(found[2]) * (4 if found[1] == "U" else 1):
        raise ValueError(_MALFORMED)
    objects = _members(inner, size, depth)
    if bool(flags & _HOLDS_OBJECTS) != objects or (inner != (None,) * 3 and found[1] != "V"):
        raise ValueError(_MALFORMED)
    return size, objects


def _members(inner: tuple[Any, Any, Any], size: int, depth: int) -> bool:
    """Whether the subarray or the fields of a dtype hold objects; they lie inside `size` bytes."""
    subarray, names, fields = inner
    if subarray is not None:
        base, shape = subarray
        dims = shape if type(shape) is tuple else (shape,)
        if names is not None or not all(type(dim) is int and dim >= 0 for dim in dims):
            raise ValueError(_MALFORMED)
        width, objects = _size(base, depth + 1)
        if width * math.prod(dims) != size:
            raise ValueError(_MALFORMED)
        return objects
    if names is None and fields is None:
        return False
    if type(names) is not tuple or type(fields) is not dict or not set(names) <= set(fields):
        raise ValueError(_MALFORMED)
    found = False
    for base, offset, *_title in fields.values():
        width, objects = _size(base, depth + 1)
        if type(offset) is not int or not 0 <= offset <= size - width:
            raise ValueError(_MALFORMED)
        found = found or objects
    return found
