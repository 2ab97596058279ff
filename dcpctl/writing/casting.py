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
    "float8_e8m0fnu",
)
_KINDS = ("float", "int", "uint", "bool", "complex")


def check_cast(source: str, target: str, subject: str) -> None:
    """Refuse a cast whose result nobody could have meant.

    Args:
        source: torch's name of the dtype that the numbers have.
        target: of the dtype that they are to have.
        subject: the tensor, quoted.

    Raises:
        Refused: packed or quantized numbers, or complex ones to real ones.
        UnknownForm: an unknown dtype.
    """
    kinds = dtypes.info(source).kind, dtypes.info(target).kind
    packed = not all(kind in _KINDS for kind in kinds) or "complex32" in (source, target)
    if packed or (kinds[0] == "complex" != kinds[1]):
        raise Refused(f"{subject}: {source} cannot be cast to {target}")


def cast(array: NDArray[Any], source: str, target: str) -> NDArray[Any]:
    """Return an array's numbers in another dtype.

    Rounds to nearest, ties to even; too large for a float16 or bfloat16 becomes infinity, for a
    float8 without infinities NaN, as in torch. To integers it truncates.

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
        made: NDArray[Any] = array.astype(dtypes.numpy_dtype(target))
        return made
