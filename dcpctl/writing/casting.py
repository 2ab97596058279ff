"""Numbers in another dtype, rounded as torch rounds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpctl.errors import Refused
from dcpctl.formats import dtypes

#: What torch converts to through float32 (`c10::BFloat16(float)`, `c10::Half(float)`, ...), so that
#: a float64 is rounded twice.
_THROUGH_FLOAT32 = (
    "float16",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
)
#: Largest float8_e4m3fn, which has no infinity: torch 2.13 stops there, where 2.4 gave NaN.
_LARGEST_E4M3FN = 448.0
_KINDS = ("float", "int", "uint", "bool", "complex")


def check_cast(source: str, target: str, subject: str) -> None:
    """Refuse a cast whose result nobody could have meant.

    Args:
        source: torch's name of the dtype that the numbers have.
        target: of the dtype that they are to have.
        subject: the tensor, quoted.

    Raises:
        Refused: packed or quantized numbers, complex ones to real ones, or anything to
            float8_e8m0fnu, which has neither zero nor sign.
        UnknownForm: an unknown dtype.
    """
    kinds = dtypes.info(source).kind, dtypes.info(target).kind
    packed = not all(kind in _KINDS for kind in kinds) or "complex32" in (source, target)
    packed = packed or target == "float8_e8m0fnu"
    if packed or (kinds[0] == "complex" != kinds[1]):
        raise Refused(f"{subject}: {source} cannot be cast to {target}")


def cast(array: NDArray[Any], source: str, target: str) -> NDArray[Any]:
    """Return an array's numbers in another dtype.

    Rounds to nearest, ties to even. What is too large becomes infinity; in float8_e4m3fn the
    largest number, in the `fnuz` dtypes NaN, as in torch. To integers it truncates.

    Args:
        array: numbers in `dtypes.numpy_dtype(source)`.
        source: torch's name of their dtype.
        target: torch's name of the dtype wanted.

    Returns:
        An array of the same shape in `dtypes.numpy_dtype(target)`.
    """
    if source == target:
        return array
    with np.errstate(all="ignore"):
        if target in _THROUGH_FLOAT32 or source in _THROUGH_FLOAT32:
            array = array.astype(np.float32)
        if target == "float8_e4m3fn":
            array = np.clip(array, -_LARGEST_E4M3FN, _LARGEST_E4M3FN)
        made: NDArray[Any] = array.astype(dtypes.numpy_dtype(target))
        return made
