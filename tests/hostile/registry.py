"""The corpus: every hostile or damaged checkpoint by name, with what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Make = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """One hostile input.

    Attributes:
        name: of the function that makes it, with dashes.
        make: writes it to a directory that does not exist yet. `canary(directory)` is the file
            that its payload tries to create.
        opens: id of the error that opening ends in; empty if it opens.
        reads: ids of the errors that reading every entry ends in; empty if all are read.
        finding: a rule that `dcpctl check` must report, where it opens and says so.
        subject: text that the error's message must hold.
        runs: loading it with torch runs or opens something, and `check` must say so as an error.
    """

    name: str
    make: Make
    opens: str = ""
    reads: frozenset[str] = frozenset()
    finding: str = ""
    subject: str = ""
    runs: bool = False


CASES: dict[str, Case] = {}


def case(
    *,
    opens: str = "",
    reads: str | tuple[str, ...] = (),
    finding: str = "",
    subject: str = "",
    runs: bool = False,
) -> Callable[[Make], Make]:
    """Register the function below as a case; see `Case`."""

    def register(make: Make) -> Make:
        name = make.__name__.replace("_", "-")
        assert name not in CASES, name
        ids = frozenset([reads] if isinstance(reads, str) else reads)
        CASES[name] = Case(name, make, opens, ids, finding, subject, runs)
        return make

    return register


def canary(directory: Path) -> Path:
    """The file beside the checkpoint that exists only if a payload ran."""
    return directory.parent / "canary"
