"""What a repair may do, and what it is told to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dcpctl.parallel import threads_for


@dataclass(frozen=True, slots=True)
class RepairOptions:
    """Options of a repair or a salvage.

    Attributes:
        allow_older: chunks may be taken from a sibling that is another save.
        drop_broken_state: parameters whose optimizer state is damaged lose all of it.
        fill_broken_state: such parameters get the state of a new optimizer.
        trust_order: names may rest on order, dtypes and shapes alone, where the numbers do not go
            on where the sibling's were.
        allow_unsummed: items that record no checksum count as good if they are whole.
        jobs: threads that read; None for the number of processors, at most 8.
        progress: told of the bytes read and of those to read.
    """

    allow_older: bool = False
    drop_broken_state: bool = False
    fill_broken_state: bool = False
    trust_order: bool = False
    allow_unsummed: bool = False
    jobs: int | None = None
    progress: Callable[[int, int], None] | None = field(default=None, compare=False)

    @property
    def threads(self) -> int:
        """How many threads to use."""
        return threads_for(self.jobs)
