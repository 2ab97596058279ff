"""Every case, from the modules that register them."""

from __future__ import annotations

from tests.hostile import (
    block_cases,
    bomb_cases,
    item_cases,
    metadata_cases,
    name_cases,
    numpy_cases,
    path_cases,
    pickle_cases,
    safetensors_cases,
    side_cases,
    value_cases,
)
from tests.hostile.registry import CASES, Case

MODULES = (
    *(pickle_cases, bomb_cases, metadata_cases, path_cases, name_cases, item_cases),
    *(safetensors_cases, block_cases, value_cases, numpy_cases, side_cases),
)

__all__ = ["CASES", "MODULES", "Case"]
