"""Several processes that share the files of one result: `torchrun ... -m dcpctl reshard ...`.

Every rank plans the same, since a plan depends on nothing but the source and the command. Rank 0
stages, each rank writes its files, and after all of them have, rank 0 proves and publishes. What
one rank cannot do, none does: an error ends all of them, and one that is killed takes the others
with it before anything is published. torchrun starts and ends the processes; gloo connects them.
"""

from __future__ import annotations

import dataclasses
import heapq
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from dcpctl.errors import DcpctlError, ReadFailed, Refused
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import Plan
from dcpctl.writing.publish import DestinationExists, publish
from dcpctl.writing.ranks import RankFailed, RankGone, Ranks, joined_ranks
from dcpctl.writing.report import Report
from dcpctl.writing.run import Aim, Run, take_aim
from dcpctl.writing.staging import Staging

_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class _Failure:
    """What went wrong on a rank, in a form that others can be sent.

    Attributes:
        message: the error's.
        keep: what is finished is good, and is kept for `--resume`.
    """

    message: str
    keep: bool


def write_together(plan: Plan, options: WriteOptions) -> Report:
    """Carry out a plan with all processes of a torchrun job; see `write.write`.

    Args:
        plan: the same on every rank.
        options: the same on every rank; `jobs` counts for each.

    Returns:
        The report, of all ranks together.

    Raises:
        Refused: the ranks have planned different things, or an edit in place is asked for.
        RankFailed: another rank has failed; nothing is published.
        As `write.write`.
    """
    if plan.in_place:
        raise Refused(
            "an edit in place is one process's work", hint="run it without torchrun, or give DST"
        )
    started = time.monotonic()
    with joined_ranks() as ranks:
        if len(set(ranks.gather(plan.fingerprint))) > 1:
            raise Refused(
                "the ranks do not see the same source",
                hint="it must lie on a filesystem that all of them share",
            )
        return _Together(ranks, plan, _for_one_rank(options, ranks), started).run()


def _for_one_rank(options: WriteOptions, ranks: Ranks) -> WriteOptions:
    """The options of one rank: its share of the machine's processors, and progress on rank 0."""
    beside = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    jobs = options.jobs or max(1, min(8, (os.cpu_count() or 1) // beside))
    return dataclasses.replace(options, jobs=jobs, progress=options.progress and ranks.rank == 0)


class _Together:
    """One write by all ranks; each of its phases is ended by all of them together."""

    def __init__(self, ranks: Ranks, plan: Plan, options: WriteOptions, started: float) -> None:
        self.ranks = ranks
        self.plan = plan
        self.options = options
        self.started = started
        self.staging: Staging | None = None

    def run(self) -> Report:
        aim, notes = self._begin()
        if self.options.dry_run:
            return Report(
                self.plan.destination, self.plan.counts, aim.link, aim.needed, dry_run=True
            )
        assert self.staging is not None
        run = Run(self.plan, self.options, self.staging, aim.link, self._share())
        self._all(run.files)
        self._all(lambda: self._compare(run))
        self._all(lambda: self.plan.sources.check_unchanged(self.plan.stamps))
        written = sum(self.ranks.gather(run.written))
        try:
            self._first(lambda: self._publish(run, aim))
        except RankGone as error:
            raise error.while_publishing(
                aim.destination, self.staging.is_published(aim.destination)
            ) from None
        self.staging.journal.close()
        return Report(
            self.plan.destination,
            self.plan.counts,
            aim.link,
            written + self.plan.metadata_bytes,
            time.monotonic() - self.started,
            resumed=tuple(run.resumed),
            notes=tuple(notes),
        )

    # -- phases -----------------------------------------------------------------------------------

    def _begin(self) -> tuple[Aim, list[str]]:
        """Have rank 0 stage, and the others join it there."""

        def begin() -> tuple[Aim, tuple[dict[str, int], dict[str, int]], list[str], Any]:
            aim = take_aim(self.plan, self.options)
            if self.options.dry_run:
                return aim, ({}, {}), [], None
            self.staging = Staging.begin(
                aim.destination,
                self.plan.fingerprint,
                self.plan.directories,
                resume=self.options.resume,
            )
            Run(self.plan, self.options, self.staging, aim.link).check_space()
            journal = self.staging.journal
            return aim, (journal.finished, journal.begun), self.staging.notes, self.staging.root

        aim, done, notes, root = self._first(begin)
        if root is not None and self.staging is None:
            self.staging = self._all(lambda: Staging.join(root))
            self.staging.journal.finished, self.staging.journal.begun = done
        elif root is not None:
            self._all(lambda: None)
        return aim, notes

    def _share(self) -> list[int]:
        """The files of this rank: the largest first, each to whoever has least to write."""
        assert self.staging is not None
        finished = self.staging.journal.finished
        sizes = [0 if file.name in finished else file.size for file in self.plan.files]
        loads = [(0, rank) for rank in range(self.ranks.size)]
        mine = []
        for number in sorted(range(len(sizes)), key=lambda number: (-sizes[number], number)):
            load, rank = heapq.heappop(loads)
            heapq.heappush(loads, (load + sizes[number], rank))
            if rank == self.ranks.rank:
                mine.append(number)
        return mine

    def _compare(self, run: Run) -> None:
        """Put together what all ranks have read, and share the checksums that are left."""
        for rank, state in enumerate(self.ranks.gather(run.ledger.state())):
            if rank != self.ranks.rank:
                run.ledger.take_over(state)
        run.verify(self.ranks.rank, self.ranks.size)

    def _publish(self, run: Run, aim: Aim) -> None:
        assert self.staging is not None
        run.metadata()
        publish(self.staging.files, aim.destination, overwrite=self.options.overwrite)
        self.staging.remove()

    # -- all or nothing ---------------------------------------------------------------------------

    def _first(self, act: Callable[[], _Made]) -> _Made:
        """Let rank 0 do something, and return what it made."""
        made = self._all(act if self.ranks.rank == 0 else lambda: None)
        found: _Made = self.ranks.share(made)
        return found

    def _all(self, act: Callable[[], _Made]) -> _Made:
        """Do something on every rank; where it fails on one, end it on all.

        Raises:
            RankFailed: it failed on another rank.
            What it raised here.
        """
        error: DcpctlError | None = None
        try:
            made = act()
        except DcpctlError as raised:
            error = raised
        failures = self.ranks.gather(
            None if error is None else _Failure(error.message, _keeps(error))
        )
        failed = [(rank, failure) for rank, failure in enumerate(failures) if failure is not None]
        if not failed:
            return made
        self._leave(keep=all(failure.keep for _, failure in failed))
        if error is not None:
            raise error
        rank, failure = failed[0]
        raise RankFailed(f"rank {rank} of {self.ranks.size} failed: {failure.message}")

    def _leave(self, *, keep: bool) -> None:
        if self.staging is None:
            return
        if self.ranks.rank != 0:
            self.staging.close()
        elif keep:
            self.staging.leave()
        else:
            self.staging.remove()


def _keeps(error: DcpctlError) -> bool:
    return isinstance(error, (ReadFailed, DestinationExists))
