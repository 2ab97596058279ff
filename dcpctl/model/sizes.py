"""Sizes as people write them."""

from __future__ import annotations

from dcpctl.errors import UsageError, quote

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Read a size in bytes: `256M`, `1.5G`, `300MiB`; units are powers of 1024.

    Raises:
        UsageError: it is none.
    """
    word = text.strip().upper()
    for ending in ("IB", "B"):
        word = word.removesuffix(ending)
    unit = word[-1:] if word[-1:] in _UNITS else ""
    try:
        number = float(word.removesuffix(unit))
        size = int(number * _UNITS[unit])
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise UsageError(f"{quote(text)} is no size", hint="such as 256M or 2G")
    return size
