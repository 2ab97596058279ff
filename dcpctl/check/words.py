"""Numbers, boxes and lists as findings write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dcpctl.errors import listed
from dcpctl.text import count as count
from dcpctl.text import size as size

_SHOWN = 3


def box(starts: Sequence[int], stops: Sequence[int]) -> str:
    """A box of elements: `[4:6, 0:4]`."""
    return "[" + ", ".join(f"{a}:{b}" for a, b in zip(starts, stops, strict=True)) + "]"


def sized_box(offsets: Sequence[int], sizes: Sequence[int]) -> str:
    """A chunk as a box: its offsets and, behind the colons, where it ends."""
    return box(offsets, [a + n for a, n in zip(offsets, sizes, strict=True)])


def some(names: Iterable[str]) -> str:
    """The first three names, quoted, and how many more there are."""
    return listed(names, _SHOWN)


def enumerated(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
