"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dcpctl.text import count as count
from dcpctl.text import size as size


def number(value: object) -> str:
    """A hyperparameter or statistic: six significant digits, ints whole, the rest by repr."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**15 else f"{value:.6g}" if value < 10**300 else "huge"
    if isinstance(value, float):
        if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
            return f"{value:.1f}"
        return f"{value:.6g}"
    if isinstance(value, complex):
        return f"{value:.5g}"
    if isinstance(value, tuple):
        return f"({', '.join(number(item) for item in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(number(item) for item in value)}]"
    return value if isinstance(value, str) else repr(value)


def step(value: float) -> str:
    """A step, whole where it is: torch keeps it as a float32 tensor."""
    return str(int(value)) if math.isfinite(value) and value == int(value) else number(value)


def shape(sizes: Sequence[int]) -> str:
    """`[96, 16]`."""
    return f"[{', '.join(map(str, sizes))}]"


def ranges(numbers: Sequence[int]) -> str:
    """Ascending ints with runs closed up: `0-3, 8`."""
    runs: list[list[int]] = []
    for value in numbers:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
