"""What a comparison looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: What may be compared; `DiffOptions.aspects` says which of them are.
KEYS, SHAPES, LAYOUT = "keys", "shapes", "layout"
OPTIMIZER, OBJECTS, CONTENTS, VALUES = "optimizer", "objects", "contents", "values"
#: All of them, in the order in which they are told.
ASPECTS = (KEYS, SHAPES, LAYOUT, OPTIMIZER, OBJECTS, CONTENTS, VALUES)

_USUAL = frozenset({KEYS, SHAPES, LAYOUT, OPTIMIZER, OBJECTS, CONTENTS})


@dataclass(frozen=True, slots=True)
class DiffOptions:
    """What to compare; by default all that needs no tensor to be read.

    A narrowing option (one of the first four) leaves all else out, several add up.

    Attributes:
        keys_only: keys, shapes and dtypes.
        layout: how the tensors that both have lie over the ranks.
        optimizer: its kind, coverage, param groups and steps.
        values: the numbers of tensors and the values of objects, whatever their names, layouts
            and dtypes.
        tolerance: two numbers are equal where they differ by no more than this.
        ignore: globs; keys that match one are left out on both sides.
        threads: that read; None for as many as there are processors, at most 8.
        progress: told of the bytes compared so far and in all.
    """

    keys_only: bool = False
    layout: bool = False
    optimizer: bool = False
    values: bool = False
    tolerance: float = 0.0
    ignore: tuple[str, ...] = ()
    threads: int | None = None
    progress: Callable[[int, int], None] | None = None

    @property
    def aspects(self) -> frozenset[str]:
        """What is compared, and counts as a difference."""
        chosen = (
            (self.keys_only, {KEYS, SHAPES}),
            (self.layout, {LAYOUT}),
            (self.optimizer, {OPTIMIZER}),
            (self.values, {KEYS, SHAPES, OBJECTS, VALUES}),
        )
        found = frozenset[str]().union(*(aspects for asked, aspects in chosen if asked))
        return found or _USUAL
