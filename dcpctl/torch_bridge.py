"""The one place that imports torch, and only when something is asked that needs it."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from dcpctl.errors import MissingDependency, UnknownForm, quote

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_DIST_INFO = re.compile(r"torch-([^+-]+)(?:\+[^-]*)?\.dist-info")


def require_torch() -> ModuleType:
    """Import torch and return it.

    Raises:
        MissingDependency: torch is not installed, or does not load.
    """
    try:
        return importlib.import_module("torch")
    except (ImportError, OSError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "torch"
        raise MissingDependency(
            "this needs torch, which is not installed"
            if missing
            else f"this needs torch, which does not load here: {error}",
            hint="pip install 'dcpctl[torch]'",
        ) from None


def installed_version() -> str | None:
    """Return the installed torch's version (`2.13.0`), without importing it; None if there is none.

    A local part such as `+cpu` is cut off.
    """
    # importlib.metadata imports the email package, which costs more than the look itself.
    for entry in sys.path:
        try:
            found = next(Path(entry or ".").glob("torch-*.dist-info"), None)
        except OSError:
            continue
        if found is not None and (match := _DIST_INFO.fullmatch(found.name)):
            return match[1]
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch").partition("+")[0]
    except PackageNotFoundError:
        return None


def as_tensor(array: NDArray[Any], dtype_name: str) -> torch.Tensor:
    """Return a torch tensor with a copy of the bytes of `array`.

    Args:
        array: numbers in `dtypes.numpy_dtype(dtype_name)`, of any shape.
        dtype_name: torch's name of the dtype, without `torch.`.

    Returns:
        A contiguous CPU tensor of the array's shape.

    Raises:
        MissingDependency: as `require_torch`.
        UnknownForm: the installed torch does not have this dtype, or it is a quantized one.
    """
    import numpy as np

    module = require_torch()
    dtype = getattr(module, dtype_name, None)
    if not isinstance(dtype, module.dtype):
        raise UnknownForm(
            f"torch {module.__version__} has no dtype {quote(dtype_name)}",
            hint="a newer torch may have it",
        )
    if dtype_name.startswith(("qint", "quint")):
        raise UnknownForm(f"{dtype_name} has no meaning without its scale and zero point")
    if not array.size:
        return cast("torch.Tensor", module.empty(array.shape, dtype=dtype))
    # torch knows no NumPy dtype beyond the common ones, but bytes it takes as they are.
    data = bytearray(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    flat = module.frombuffer(data, dtype=module.uint8).view(dtype)
    return cast("torch.Tensor", flat.reshape(array.shape))
