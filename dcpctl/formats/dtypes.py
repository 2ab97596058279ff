"""Every torch dtype that can stand in a checkpoint: size, NumPy, safetensors and storage names.

Names are torch's without `torch.`. Numbers on disk are little-endian. This module imports NumPy
and ml_dtypes only when an array is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dcpctl.errors import MissingDependency, UnknownForm, quote

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class DTypeInfo:
    """One dtype.

    Attributes:
        name: torch's name without `torch.`.
        itemsize: bytes of one element.
        numpy: NumPy's type string, or `ml_dtypes:NAME` for what NumPy itself lacks.
        kind: `float`, `complex`, `int`, `uint`, `bool`, `quantized` or `packed` (several numbers
            in one element, or a number that NumPy has no type for).
        safetensors: code in a safetensors header, or None if that format has none.
        storage_class: class in a tensor pickle's persistent id (`torch.FloatStorage`), or None for
            the dtypes that torch pickles as `UntypedStorage` with `_rebuild_tensor_v3`.
    """

    name: str
    itemsize: int
    numpy: str
    kind: str
    safetensors: str | None = None
    storage_class: str | None = None


def _table() -> dict[str, DTypeInfo]:
    rows = [
        DTypeInfo("float64", 8, "<f8", "float", "F64", "DoubleStorage"),
        DTypeInfo("float32", 4, "<f4", "float", "F32", "FloatStorage"),
        DTypeInfo("float16", 2, "<f2", "float", "F16", "HalfStorage"),
        DTypeInfo("bfloat16", 2, "ml_dtypes:bfloat16", "float", "BF16", "BFloat16Storage"),
        DTypeInfo("float8_e4m3fn", 1, "ml_dtypes:float8_e4m3fn", "float", "F8_E4M3"),
        DTypeInfo("float8_e5m2", 1, "ml_dtypes:float8_e5m2", "float", "F8_E5M2"),
        DTypeInfo("float8_e4m3fnuz", 1, "ml_dtypes:float8_e4m3fnuz", "float", "F8_E4M3FNUZ"),
        DTypeInfo("float8_e5m2fnuz", 1, "ml_dtypes:float8_e5m2fnuz", "float", "F8_E5M2FNUZ"),
        DTypeInfo("float8_e8m0fnu", 1, "ml_dtypes:float8_e8m0fnu", "float", "F8_E8M0"),
        # Two numbers in a byte. safetensors counts numbers in the shape, torch counts bytes.
        DTypeInfo("float4_e2m1fn_x2", 1, "|u1", "packed", "F4"),
        DTypeInfo("complex128", 16, "<c16", "complex", None, "ComplexDoubleStorage"),
        DTypeInfo("complex64", 8, "<c8", "complex", "C64", "ComplexFloatStorage"),
        DTypeInfo("complex32", 4, "<f2,<f2", "complex"),
        DTypeInfo("int64", 8, "<i8", "int", "I64", "LongStorage"),
        DTypeInfo("int32", 4, "<i4", "int", "I32", "IntStorage"),
        DTypeInfo("int16", 2, "<i2", "int", "I16", "ShortStorage"),
        DTypeInfo("int8", 1, "|i1", "int", "I8", "CharStorage"),
        DTypeInfo("uint64", 8, "<u8", "uint", "U64"),
        DTypeInfo("uint32", 4, "<u4", "uint", "U32"),
        DTypeInfo("uint16", 2, "<u2", "uint", "U16"),
        DTypeInfo("uint8", 1, "|u1", "uint", "U8", "ByteStorage"),
        DTypeInfo("bool", 1, "|b1", "bool", "BOOL", "BoolStorage"),
        DTypeInfo("qint8", 1, "|i1", "quantized", None, "QInt8Storage"),
        DTypeInfo("quint8", 1, "|u1", "quantized", None, "QUInt8Storage"),
        DTypeInfo("qint32", 4, "<i4", "quantized", None, "QInt32Storage"),
        DTypeInfo("quint4x2", 1, "|u1", "quantized", None, "QUInt4x2Storage"),
        DTypeInfo("quint2x4", 1, "|u1", "quantized", None, "QUInt2x4Storage"),
        DTypeInfo("bits1x8", 1, "|u1", "packed"),
        DTypeInfo("bits2x4", 1, "|u1", "packed"),
        DTypeInfo("bits4x2", 1, "|u1", "packed"),
        DTypeInfo("bits8", 1, "|u1", "packed"),
        DTypeInfo("bits16", 2, "<u2", "packed"),
    ]
    for bits in range(1, 8):
        rows.append(DTypeInfo(f"int{bits}", 1, "|i1", "packed"))
        rows.append(DTypeInfo(f"uint{bits}", 1, "|u1", "packed"))
    return {row.name: row for row in rows}


#: Every dtype of torch 1.13 to 2.15 by its name (`torch/csrc/utils/tensor_dtypes.cpp`).
DTYPES: dict[str, DTypeInfo] = _table()
#: By safetensors code (`safetensors/src/tensor.rs`). `F6_*` has no torch dtype.
BY_SAFETENSORS: dict[str, DTypeInfo] = {
    row.safetensors: row for row in DTYPES.values() if row.safetensors
}
#: By storage class. `UntypedStorage` is no key: its elements are bytes.
BY_STORAGE_CLASS: dict[str, DTypeInfo] = {
    row.storage_class: row for row in DTYPES.values() if row.storage_class
}


def info(name: str) -> DTypeInfo:
    """Return what is known of the dtype `name` (`float32`).

    Raises:
        UnknownForm: no torch release looked at has such a dtype.
    """
    found = DTYPES.get(name)
    if found is None:
        raise UnknownForm(f"unknown dtype {quote(name)}")
    return found


def itemsize(name: str) -> int:
    """Return the bytes of one element; errors as `info`."""
    return info(name).itemsize


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype whose bytes are those of torch's `name`.

    bfloat16 and the float8 family are ml_dtypes' types; complex32 is a pair of float16 with the
    fields `real` and `imag`; packed and quantized dtypes are the integers that hold them.

    Raises:
        UnknownForm: as `info`.
        MissingDependency: ml_dtypes is needed and not installed.
    """
    import numpy as np

    code = info(name).numpy
    module, _, attribute = code.partition(":")
    if not attribute:
        pair = [("real", "<f2"), ("imag", "<f2")]
        plain: np.dtype[Any] = np.dtype(pair if "," in code else code)
        return plain
    try:
        import ml_dtypes
    except ImportError:
        raise MissingDependency(
            f"dtype {name} needs the package {module}", hint=f"pip install {module}"
        ) from None
    made: np.dtype[Any] = np.dtype(getattr(ml_dtypes, attribute))
    return made
