"""Where the bytes of an entry of the result come from.

A kind of source answers for itself what the writer asks of it: which entries it reads, and its
numbers box by box. So a new kind is a class, and nothing that plans, counts or writes knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dcpctl.formats import dtypes
from dcpctl.model.entry import BytesEntry, Point, TensorEntry

#: A box of an entry's tensor: first elements, and past the last ones.
Box = tuple[TensorEntry, Point, Point]
#: Reads a box of an entry; the writer's compares checksums on the way.
Fetch = Callable[[TensorEntry, Point, Point], NDArray[Any]]


class TensorSource(Protocol):
    """Where the numbers of a tensor come from.

    Its `repr` tells it from others, by which `--resume` knows a run of the same.
    """

    @property
    def entry(self) -> TensorEntry | None:
        """The entry that these numbers are, whose items can stay or be copied as they stand.

        None where they are made as they are written.
        """

    @property
    def dtype(self) -> str | None:
        """The dtype that the numbers have; None where they are made in the one that is wanted."""

    def boxes(self, starts: Point, stops: Point) -> Iterable[Box]:
        """The boxes of entries that the box [starts, stops) is made of."""

    def read(self, starts: Point, stops: Point, dtype: str, fetch: Fetch) -> NDArray[Any]:
        """Return the numbers of the box [starts, stops).

        Args:
            starts: first element per dimension.
            stops: past the last one.
            dtype: torch's name of the dtype that a source without one makes them in; another cast
                is the reader's.
            fetch: reads the boxes of `boxes`.
        """


class ValueSource(Protocol):
    """Where the object of a bytes entry comes from."""

    @property
    def entry(self) -> BytesEntry | None:
        """The entry whose item can stay or be copied as it stands; None for a new value."""

    @property
    def value(self) -> Any:
        """The object: plain Python values and `formats.pickles.standins`."""


@dataclass(frozen=True, slots=True)
class Fill:
    """A tensor whose elements are all one number; nothing of it is stored anywhere yet.

    Attributes:
        number: the number.
    """

    number: float = 0.0

    @property
    def entry(self) -> None:
        """No entry has these numbers."""

    @property
    def dtype(self) -> None:
        """They are made in the dtype that is wanted."""

    def boxes(self, starts: Point, stops: Point) -> Iterable[Box]:
        """It reads nothing."""
        return ()

    def read(self, starts: Point, stops: Point, dtype: str, fetch: Fetch) -> NDArray[Any]:
        """The number, as often as it is wanted."""
        sizes = tuple(b - a for a, b in zip(starts, stops, strict=True))
        return np.full(sizes, self.number, dtype=dtypes.numpy_dtype(dtype))


@dataclass(frozen=True, slots=True)
class NewValue:
    """A new value of a bytes entry: plain Python values and `formats.pickles.standins`."""

    value: Any

    @property
    def entry(self) -> None:
        """No item has this value yet."""
