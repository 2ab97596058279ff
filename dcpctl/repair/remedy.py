"""What was done about a chunk or entry that is lost."""

from __future__ import annotations

from dataclasses import dataclass

COPIED = "copied"
GRAFTED = "grafted"
GRAFTED_OLDER = "grafted from another save"
DROPPED = "dropped"
FILLED = "filled"
LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Remedy:
    """What was done about one chunk or entry.

    Attributes:
        what: COPIED, from a further copy in the checkpoint; GRAFTED, from another copy of the same
            save, bit for bit; GRAFTED_OLDER, from another save; DROPPED or FILLED, as all state of
            its parameter; LEFT_OUT, of a salvage.
        fqn: the entry.
        offsets: of a chunk; None where it is the whole entry.
        sizes: of a chunk; None where it is the whole entry.
        origin: the file that it was taken from; empty if from none.
    """

    what: str
    fqn: str
    offsets: tuple[int, ...] | None = None
    sizes: tuple[int, ...] | None = None
    origin: str = ""
