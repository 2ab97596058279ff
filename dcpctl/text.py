"""Words that every floor uses: counts and sizes."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def size(nbytes: float) -> str:
    """Bytes with three significant digits and a decimal unit: `1.25 GB`, `96 B`."""
    value = float(nbytes)
    unit = 0
    while abs(value) >= 999.5 and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    if unit == 0:
        return f"{value:.0f} B"
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {_UNITS[unit]}"


def count(amount: int, noun: str, plural: str | None = None) -> str:
    """`1 tensor`, `12 tensors`, `1,024,000 chunks`."""
    return f"{amount:,} {noun if amount == 1 else plural or noun + 's'}"
