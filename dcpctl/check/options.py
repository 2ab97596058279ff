"""What a check may be asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dcpctl.parallel import threads_for

if TYPE_CHECKING:
    from dcpctl.check.baseline import Baseline
    from dcpctl.check.like import Like
    from dcpctl.check.policy import Policy
    from dcpctl.model.receipt import Receipt


class Progress(Protocol):
    """Told now and then how far the reading of files has come."""

    def __call__(self, done: int, total: int) -> None:
        """Take the bytes done and the bytes in all; called from one thread at a time."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Options of `run_checks`.

    Attributes:
        select: rules to run, by id or its beginning (`DCP103`, `DCP1`, `DCP1xx`); empty for all.
        ignore: rules not to run, in the same way; stronger than `select`.
        strict: warnings fail the check too. Changes no finding; see `CheckResult.failed`.
        max_findings: most findings to list; None for all.
        verify_data: read every byte and compare every checksum, instead of a sample.
        values: read all numbers and look for NaN and infinities.
        security: run only the rules on code, paths and ambiguous bytes, and open every item for
            them, but read no numbers unless `verify_data` asks for it.
        torch: torch release that the checkpoint shall load in, such as `2.13`; None for the
            installed one.
        expect_step: the step that the optimizer should be at.
        against: the save of the same run that came before; None to look at this one alone.
        policy: what a team asks of its checkpoints; None for nothing.
        baseline: findings that a team lets pass; None for none.
        like: the run that is going to load it; None to foresee no load.
        receipt: what a load of it did, as the run wrote it down; None for none.
        may_skip: globs of keys that a load may leave on disk.
        jobs: threads that read; None for the number of processors, at most 8.
        progress: told of the bytes read.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    strict: bool = False
    max_findings: int | None = None
    verify_data: bool = False
    values: bool = False
    security: bool = False
    torch: str | None = None
    expect_step: int | None = None
    against: Path | None = None
    policy: Policy | None = None
    baseline: Baseline | None = None
    like: Like | None = None
    receipt: Receipt | None = None
    may_skip: tuple[str, ...] = ()
    jobs: int | None = None
    progress: Progress | None = field(default=None, compare=False)

    @property
    def threads(self) -> int:
        """How many threads to use."""
        return threads_for(self.jobs)
