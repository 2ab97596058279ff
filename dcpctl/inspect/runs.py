"""Runs: the saves of each, newest first, and which of them to resume from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path

from dcpctl.errors import DcpctlError, InterruptedSave
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.contents import is_export
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.moments import lost_moments
from dcpctl.model.optimizer.verdict import ABSENT, PARTIAL, number
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.positions import Position
from dcpctl.model.saves import Found, RunDirectory, SaveDirectory, look
from dcpctl.model.witnesses import THE_NAME, Witness, few, settled
from dcpctl.storage.local import LocalStorage

INTERRUPTED, UNREADABLE = "interrupted", "unreadable"
_STEADY = 0.02
_POINTER = re.compile(r"(?i)(?:.*[_.-])?(?:latest|last|newest)(?:[_.-].*)?")
_POINTER_BYTES, _NUMBER_DIGITS = 4096, 15


@dataclass(frozen=True, slots=True)
class Save:
    """One save of a run.

    Attributes:
        path: its directory.
        run: the directory of its run.
        step: the job's step; None if nothing tells it.
        step_from: what tells it: the directory's name, the job's own count or the optimizer.
        verdict: the optimizer's (`complete`, `partial`, `absent`), `interrupted` or `unreadable`.
        position: what the directory's name says.
        placed: its place among the saves is known.
        links: symbolic links that lead to it.
        kind: the kind of optimizer.
        steps: the distinct steps that the optimizer counted, ascending.
        job_step: what the job itself counted, and by which key; None if it saved no count.
        bare: trained parameters without any state.
        only_bare: nothing else is missing, and nothing says that these had state.
        trained: trained parameters.
        weights_only: it holds a model and nothing of the job: an export.
        absent_files: shard files that are not there.
        moments_lost: its second moments are zero after steps were taken, as far as a sample tells.
        keys: entries.
        nbytes: bytes of all tensors' numbers.
        sentence: whether training can be resumed from it.
        error: why it cannot be read.
    """

    path: Path
    run: Path
    step: int | None
    verdict: str
    step_from: str = ""
    position: Position | None = None
    placed: bool = True
    links: tuple[Path, ...] = ()
    kind: str | None = None
    steps: tuple[float, ...] = ()
    job_step: tuple[str, float] | None = None
    bare: frozenset[str] = frozenset()
    only_bare: bool = False
    trained: int = 0
    weights_only: bool = False
    absent_files: tuple[str, ...] = ()
    moments_lost: bool = False
    keys: int = 0
    nbytes: int = 0
    sentence: str = ""
    error: DcpctlError | None = None

    @property
    def name(self) -> str:
        """What tells it from the other saves: its path below the run's directory."""
        if self.path == self.run:
            return self.path.name or str(self.path)
        return self.path.relative_to(self.run).as_posix()

    def is_named(self, name: str) -> bool:
        """Whether a name, or a number alone, stands for it."""
        at = self.position
        return name == self.path.name or (
            name.isdecimal() and at is not None and at.value == int(name[:_NUMBER_DIGITS])
        )


class Run:
    """The saves of one run, and what they say together.

    Args:
        path: the run's directory.
        saves: newest first; those without a known place behind them.
    """

    def __init__(self, path: Path, saves: Sequence[Save]) -> None:
        self.path = path
        self.saves = tuple(saves)

    @cached_property
    def pointers(self) -> dict[str, Save | str]:
        """Small files that name the save to go on from (`latest`), to that save, or to what else.

        Megatron's `latest_checkpointed_iteration.txt` holds the number alone.
        """
        found: dict[str, Save | str] = {}
        for name, text in _pointer_texts(self.path):
            named = text.rstrip("/").rpartition("/")[2]
            found[name] = next((save for save in self.saves if save.is_named(named)), named)
        return found

    @cached_property
    def resets(self) -> tuple[tuple[Save, Save], ...]:
        """Each save whose optimizer counts fewer steps than the save before, with that one."""
        counted = [save for save in self.saves if save.steps and save.placed]
        return tuple(
            (newer, older)
            for newer, older in pairwise(counted)
            if newer.steps[-1] < older.steps[-1]
        )

    @property
    def before_reset(self) -> tuple[Save, ...]:
        """The saves before the first reset; all of them without one."""
        if not self.resets:
            return self.saves
        return self.saves[self.saves.index(self.resets[-1][1]) :]

    @cached_property
    def never_trained(self) -> frozenset[str]:
        """Parameters that have no state in any save that has some: no gradient ever reached them.

        One save alone does not tell: state may be lost from it.
        """
        told = [save.bare for save in self.saves if save.error is None and save.trained]
        return frozenset.intersection(*told) if len(told) > 1 else frozenset()

    @property
    def newest_complete(self) -> Save | None:
        """The newest save whose optimizer state is all there, but for what was never trained."""
        return next((save for save in self.saves if not self.why_incomplete(save)), None)

    @property
    def resume_from(self) -> Save | None:
        """The newest complete save with which the run goes on where it was: after no reset."""
        good = next((save for save in self.saves if not self.why_not(save)), None)
        return good or next((save for save in self.saves if self.is_doubtful(save)), None)

    def is_doubtful(self, save: Save) -> bool:
        """Whether a save lacks only state that no gradient may ever have made."""
        doubtful = save.verdict == PARTIAL and save.only_bare
        return doubtful and not save.absent_files and not self._why_reset(save)

    def why_incomplete(self, save: Save) -> str:
        """Return why a save is not complete, a clause; empty if it is."""
        if save.error is not None:
            return save.verdict
        if save.absent_files:
            count = len(save.absent_files)
            return f"{count:,} of its shard files {'is' if count == 1 else 'are'} not there"
        if save.weights_only:
            return "an export: weights alone"
        if save.verdict == ABSENT:
            return "no optimizer state"
        if save.moments_lost:
            return "its second moments are zero"
        if save.verdict == PARTIAL and not (save.only_bare and save.bare <= self.never_trained):
            return "optimizer state is missing"
        return ""

    def why_not(self, save: Save) -> str:
        """Return why not to resume from a save, a clause; empty if it is good."""
        return self.why_incomplete(save) or self._why_reset(save)

    def _why_reset(self, save: Save) -> str:
        if save.job_step is not None and self._is_behind(save):
            return (
                f"its optimizer was reset: it is at step {number(save.steps[-1]):,}, and "
                f"{save.job_step[0]} says {number(save.job_step[1]):,}"
            )
        # Every save after a reset goes on with moments that began again.
        if not save.placed or save in self.before_reset:
            return ""
        return f"its optimizer was reset after {self.resets[-1][1].name}"

    def _is_behind(self, save: Save) -> bool:
        """Whether the optimizer is behind the job, which counts what the optimizer counts."""
        if save.job_step is None or not save.steps:
            return False
        job, at = save.job_step[1], save.steps[-1]
        if job <= at or few(job - at, job):
            return False
        ratios = [
            s.job_step[1] / s.steps[-1]
            for s in self.saves
            if s.job_step is not None and s.steps and s.steps[-1] > 0
        ]
        # One ratio in every save: the job counts the micro-batches of accumulated gradients.
        steady = len(ratios) > 1 and max(ratios) <= min(ratios) * (1 + _STEADY)
        return not steady


def list_run(path: Path, advance: Callable[[], None] | None = None) -> Iterator[Save]:
    """Look at every save of every run in a directory; a bad one does not end the listing.

    Args:
        path: the directory.
        advance: called after each save.

    Yields:
        The saves of one run after another, the newest of each first.
    """
    for run in look(path).runs:
        yield from _list(run, advance)


def list_runs(
    path: Path, advance: Callable[[], None] | None = None
) -> tuple[tuple[Run, ...], Found]:
    """Look at every save of every run in a directory, and say where was not looked.

    Args:
        path: the directory.
        advance: called after each save.
    """
    found = look(path)
    runs = tuple(Run(run.path, list(_list(run, advance))) for run in found.runs)
    return runs, found


def _list(run: RunDirectory, advance: Callable[[], None] | None) -> Iterator[Save]:
    for directory in run.saves:
        yield _look(directory, run.path)
        if advance is not None:
            advance()


def as_runs(saves: Sequence[Save]) -> tuple[Run, ...]:
    """Sort saves, as `list_run` gives them, into their runs."""
    return tuple(Run(path, list(group)) for path, group in groupby(saves, key=lambda s: s.run))


def _look(directory: SaveDirectory, run: Path) -> Save:
    try:
        with open_checkpoint(directory.path) as checkpoint:
            return _read(directory, run, checkpoint)
    except DcpctlError as error:
        return Save(
            directory.path,
            run,
            directory.step,
            INTERRUPTED if isinstance(error, InterruptedSave) else UNREADABLE,
            THE_NAME if directory.step is not None else "",
            directory.position,
            directory.order is not None,
            directory.links,
            sentence=error.message,
            error=error,
        )


def _read(directory: SaveDirectory, run: Path, checkpoint: Checkpoint) -> Save:
    view = OptimizerView(checkpoint)
    at = max((step for step in view.steps if step == step), default=None)
    job = settled(view.witnesses.sure, at)
    step, source = _step_of(directory, at, job)
    bare = [p for p in view.parameters if p.missing and not p.slots]
    return Save(
        path=directory.path,
        run=run,
        step=step,
        step_from=source,
        verdict=view.verdict,
        position=directory.position,
        placed=directory.order is not None,
        links=directory.links,
        kind=view.kind,
        steps=tuple(view.steps),
        job_step=None if job is None else (job.source, job.step),
        bare=frozenset(p.name for p in bare),
        only_bare=view.only_bare,
        trained=len(view.parameters),
        weights_only=is_export(view),
        absent_files=tuple(file.name for file in checkpoint.files if file.size is None),
        moments_lost=_moments_lost(view, checkpoint),
        keys=len(checkpoint),
        nbytes=checkpoint.nbytes,
        sentence=view.sentence,
    )


def _moments_lost(view: OptimizerView, checkpoint: Checkpoint) -> bool:
    try:
        return lost_moments(view, checkpoint.entries)
    except DcpctlError:  # what cannot be read is not known to be lost
        return False


def _pointer_texts(run: Path) -> Iterator[tuple[str, str]]:
    """The small text files in a run's directory whose names say that they name the newest save."""
    try:
        with LocalStorage(run) as storage:
            for name, size in storage.names().items():
                if 0 < size <= _POINTER_BYTES and _POINTER.fullmatch(name):
                    text = storage.read(name, 0, size).decode("utf-8", "replace").strip()
                    if text.isprintable() and "{" not in text and " " not in text:
                        yield name, text
    except DcpctlError:
        return


def _step_of(
    directory: SaveDirectory, at: float | None, job: Witness | None
) -> tuple[int | None, str]:
    """The job's step at a save, and what tells it; a bare number only where another agrees."""
    if directory.step is not None:
        return directory.step, THE_NAME
    bare = directory.position.value if directory.position is not None else None
    if bare is not None and bare in (at, None if job is None else job.step):
        return bare, THE_NAME
    if job is not None:
        return int(job.step), job.source
    return (None, "") if at is None else (int(at), "the optimizer")
