"""Lists and sentences of messages."""

from __future__ import annotations

from collections.abc import Iterable

from dcpctl.errors import quote
from dcpctl.repair.survey import WHOLE, Survey

_SHOWN = 5


def listed(names: Iterable[str], *, quoted: bool = True) -> str:
    """The first five, and how many more there are."""
    every = list(names)
    shown = [quote(name) if quoted else name for name in every[:_SHOWN]]
    more = len(every) - len(shown)
    return (", " if quoted else "; ").join(shown) + (f" and {more:,} more" if more > 0 else "")


def count(number: int, noun: str) -> str:
    """`1 item`, `1,200 items`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def sentence_of(survey: Survey) -> str:
    """What is wrong with the files, in words."""
    return listed((f"{f.name}: {f.why}" for f in survey.files if f.state != WHOLE), quoted=False)
