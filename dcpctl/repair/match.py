"""Which item of a file is which of those that a sibling's file has: by order, dtype and shape.

DCP writes a rank's items in the order of its save plan, bytes entries before tensors, and the plan
follows from the state dict (`torch/distributed/checkpoint/filesystem.py`, `planner_helpers.py`). So
two saves of a run have the same items in the same order, and a file that was cut off has the first
ones. Where the items found are another number than the sibling's, an item counts as matched only if
there is one way to fit them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dcpctl.repair.found import TENSOR, UNKNOWN, Found
from dcpctl.repair.wanted import Wanted

ALL, BEGIN, ENDS, SOME, NONE = "all", "beginning", "both ends", "some", "none"


@dataclass(frozen=True, slots=True)
class Match:
    """How the items of a file fit a sibling's.

    Attributes:
        how: ALL, one to one; BEGIN, the file was cut off; ENDS, a hole in the middle; SOME, items
            are missing and these are the ones with one place only; NONE, they do not fit.
        pairs: (number among the found, number among the wanted), ascending.
        doubtful: numbers among the wanted that an item may be, where it may be several.
        why: where they do not fit, in words.
    """

    how: str
    pairs: tuple[tuple[int, int], ...] = ()
    doubtful: tuple[int, ...] = ()
    why: str = ""


def match_items(
    front: Sequence[Found], back: Sequence[Found], wanted: Sequence[Wanted], *, whole: bool
) -> Match:
    """Match the items of one file.

    Args:
        front: from the start of the file on, back to back.
        back: up to its end, behind a hole; none where there is none.
        wanted: the sibling's.
        whole: every byte of the file belongs to an item.
    """
    every = [*front, *back]
    if whole and len(every) == len(wanted):
        odd = _first_odd(every, wanted)
        if odd is None:
            return Match(ALL, tuple((n, n) for n in range(len(every))))
        return Match(NONE, why=_unlike(odd, every[odd], wanted[odd]))
    if len(every) > len(wanted):
        return Match(NONE, why=f"it has {len(every):,} items, the sibling's {len(wanted):,}")
    if not whole and len(every) == len(wanted):
        return Match(NONE, why=f"it has bytes that belong to none of its {len(every):,} items")
    odd = _first_odd(front, wanted)
    if odd is None and not back:
        return Match(BEGIN, tuple((n, n) for n in range(len(front))))
    if not whole:
        return _ends(front, back, wanted, odd)
    return _fit(every, wanted)


def _ends(
    front: Sequence[Found], back: Sequence[Found], wanted: Sequence[Wanted], odd: int | None
) -> Match:
    """The first items and the last ones, with a hole between them."""
    if odd is not None:
        return Match(NONE, why=_unlike(odd, front[odd], wanted[odd]))
    skip = len(wanted) - len(back)
    odd = _first_odd(back, wanted[skip:])
    if odd is not None:
        return Match(NONE, why=_unlike(skip + odd, back[odd], wanted[skip + odd]))
    pairs = [(n, n) for n in range(len(front))]
    pairs += [(len(front) + n, skip + n) for n in range(len(back))]
    return Match(ENDS, tuple(pairs))


def _fit(found: Sequence[Found], wanted: Sequence[Wanted]) -> Match:
    """Fewer items than wanted, in their order: those that can be in one place only."""
    first = _earliest(found, wanted)
    if first is None:
        return Match(NONE, why=f"its {len(found):,} items do not fit among {len(wanted):,}")
    mirrored = _earliest(found[::-1], wanted[::-1])
    assert mirrored is not None
    last = [len(wanted) - 1 - n for n in reversed(mirrored)]
    pairs: list[tuple[int, int]] = []
    doubtful: set[int] = set()
    for number, (low, high) in enumerate(zip(first, last, strict=True)):
        if low == high:
            pairs.append((number, low))
        else:
            doubtful.update(n for n in range(low, high + 1) if wanted[n].fits(found[number]))
    return Match(SOME, tuple(pairs), tuple(sorted(doubtful)))


def _earliest(found: Sequence[Found], wanted: Sequence[Wanted]) -> list[int] | None:
    places = []
    at = 0
    for item in found:
        while at < len(wanted) and not wanted[at].fits(item):
            at += 1
        if at == len(wanted):
            return None
        places.append(at)
        at += 1
    return places


def _first_odd(found: Sequence[Found], wanted: Sequence[Wanted]) -> int | None:
    return next(
        (n for n, (f, w) in enumerate(zip(found, wanted, strict=False)) if not w.fits(f)), None
    )


def _unlike(number: int, found: Found, wanted: Wanted) -> str:
    what = f"{found.dtype}{list(found.sizes)}" if found.kind == TENSOR else "an object"
    what = "something" if found.kind == UNKNOWN else what
    return f"item {number + 1:,} at byte {found.offset:,} is {what}, the sibling's is {wanted.what}"
