"""A run directory: its saves, newest first, each with its verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from dcpctl.errors import DcpctlError, InterruptedSave
from dcpctl.model.directories import StepDirectory, find_steps
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView

INTERRUPTED, UNREADABLE = "interrupted", "unreadable"


@dataclass(frozen=True, slots=True)
class Save:
    """One save of a run.

    Attributes:
        path: its directory.
        step: the number in the directory's name.
        verdict: the optimizer's (`complete`, `partial`, `absent`), `interrupted` or `unreadable`.
        kind: the kind of optimizer.
        steps: the distinct steps that the optimizer counted, ascending.
        keys: entries.
        nbytes: bytes of all tensors' numbers.
        sentence: whether training can be resumed from it.
        error: why it cannot be read.
    """

    path: Path
    step: int
    verdict: str
    kind: str | None = None
    steps: tuple[float, ...] = ()
    keys: int = 0
    nbytes: int = 0
    sentence: str = ""
    error: DcpctlError | None = None


def list_run(path: Path, advance: Callable[[], None] | None = None) -> Iterator[Save]:
    """Look at every save in a run directory, newest first; a bad one does not end the listing.

    Args:
        path: the run directory.
        advance: called after each save.
    """
    for found in find_steps(path):
        yield _look(found)
        if advance is not None:
            advance()


def find_resets(saves: Sequence[Save]) -> list[tuple[Save, Save]]:
    """Return each save whose optimizer counts fewer steps than the save before it, with that one.

    Args:
        saves: newest first.
    """
    counted = [save for save in saves if save.steps]
    return [
        (newer, older) for newer, older in pairwise(counted) if newer.steps[-1] < older.steps[-1]
    ]


def _look(found: StepDirectory) -> Save:
    try:
        return _read(found)
    except InterruptedSave as error:
        return Save(found.path, found.step, INTERRUPTED, sentence=str(error), error=error)
    except DcpctlError as error:
        return Save(found.path, found.step, UNREADABLE, sentence=str(error), error=error)


def _read(found: StepDirectory) -> Save:
    with open_checkpoint(found.path) as checkpoint:
        view = OptimizerView(checkpoint)
        return Save(
            path=found.path,
            step=found.step,
            verdict=view.verdict,
            kind=view.kind,
            steps=tuple(view.steps),
            keys=len(checkpoint),
            nbytes=checkpoint.nbytes,
            sentence=view.sentence,
        )
