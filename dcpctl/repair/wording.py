"""Lists and sentences of messages."""

from __future__ import annotations

from collections.abc import Iterable

from dcpctl.errors import listed
from dcpctl.repair.survey import WHOLE, Survey
from dcpctl.text import count as count


def clauses(said: Iterable[str]) -> str:
    """The first few clauses, and how many more there are."""
    return listed(said, separator="; ", show=str)


def sentence_of(survey: Survey) -> str:
    """What is wrong with the files, in words."""
    return clauses(f"{f.name}: {f.why}" for f in survey.files if f.state != WHOLE)
