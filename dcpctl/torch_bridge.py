"""The one place that imports torch, and only when something is asked that needs it."""

from __future__ import annotations

import importlib
import importlib.metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dcpctl.errors import MissingDependency, UnknownForm, quote

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


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
            hint="pip install torch",
        ) from None


def installed_version() -> str | None:
    """Return the installed torch's version (`2.13.0`), without importing it; None if there is none.

    A local part such as `+cpu` is cut off.
    """
    try:
        return importlib.metadata.version("torch").partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
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
        UnknownForm: the installed torch does not have this dtype, or cannot make plain tensors of
            it (quantized ones).
    """
    module = require_torch()
    dtype = getattr(module, dtype_name, None)
    if not isinstance(dtype, module.dtype):
        raise UnknownForm(
            f"torch {module.__version__} has no dtype {quote(dtype_name)}",
            hint="a newer torch may have it",
        )
    import numpy as np

    shape = array.shape
    try:
        tensor = module.empty(shape, dtype=dtype)
        if array.size:
            # torch knows no NumPy dtype beyond the common ones, but bytes it takes as they are.
            flat = bytearray(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            tensor = module.frombuffer(flat, dtype=module.uint8).view(dtype).reshape(shape)
    except (RuntimeError, TypeError) as error:
        raise UnknownForm(f"torch {module.__version__} makes no {dtype_name}: {error}") from None
    return tensor
