"""What the writer did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dcpctl.writing.counts import Counts


@dataclass(frozen=True, slots=True)
class Report:
    """What the writer did, or with `dry_run` would do.

    Attributes:
        destination: the directory.
        counts: the plan in numbers.
        link: how whole files got there: `reflink`, `hardlink` or `copy`.
        bytes_written: bytes that were written, those of linked files not counted.
        seconds: how long it took.
        dry_run: nothing was written.
        resumed: names of the files that an earlier run had finished.
        notes: sentences on what else happened, such as leftovers that were removed.
        backup: in place, the file that holds the metadata of before.
    """

    destination: Path
    counts: Counts
    link: str = "copy"
    bytes_written: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    resumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    backup: Path | None = None
