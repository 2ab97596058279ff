"""DCP5xx: do the shards of all ranks belong to one save?"""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check.finding import ERROR
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.model.optimizer.verdict import ABSENT


@rule("DCP521", ERROR, "shards of different saves")
def different_saves(run: Run) -> Iterator[Hit]:
    """Steps that differ by the rank whose file holds them, and in no other way."""
    if run.optimizer.verdict == ABSENT:
        raise CannotRun("there is no optimizer state")
    for mixed in run.optimizer.mixed_saves:
        files = run.checkpoint.files
        yield Hit(
            mixed.parameters[0],
            mixed.words,
            next((file.name for file in files if file.rank == mixed.ranks[0]), None),
        )
