"""The processes that torchrun started: which one this is, and how they tell each other things."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from dcpctl.errors import DcpctlError, quote
from dcpctl.torch_bridge import require_torch


class RankFailed(DcpctlError):
    """Another process of the job failed or is gone, so that this one stopped too."""

    id = "rank-failed"
    exit_code = 5


class RankGone(RankFailed):
    """Another process of the job is gone, without a word of why."""

    def __init__(self, said: str, end: str = "nothing was published") -> None:
        super().__init__(f"another process of the job is gone ({said}); {end}")
        self.said = said
        self.hint = "continue with --resume"

    def while_publishing(self, destination: Path, done: bool) -> RankGone:
        """The error where rank 0 was publishing, and whether it had is known only if it had."""
        name = quote(destination)
        if done:
            error = RankGone(self.said, f"{name} had been published before, and is whole")
            error.hint = None
            return error
        error = RankGone(self.said, f"{name} was being published")
        error.hint = "it is there whole, or all is as it was; then continue with --resume"
        return error


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a job, connected over gloo.

    Attributes:
        rank: this one's number.
        size: how many there are.
    """

    rank: int
    size: int

    def gather(self, value: object) -> list[Any]:
        """Return every rank's value, in order; each waits for all.

        Raises:
            RankGone: one of them is gone.
        """
        found: list[Any] = [None] * self.size
        try:
            require_torch().distributed.all_gather_object(found, value)
        except RuntimeError as error:
            raise _gone(error) from None
        return found

    def share(self, value: object) -> Any:
        """Return the value that rank 0 gave.

        Raises:
            RankGone: one of them is gone.
        """
        held = [value]
        try:
            require_torch().distributed.broadcast_object_list(held, src=0)
        except RuntimeError as error:
            raise _gone(error) from None
        return held[0]


def launched() -> bool:
    """Whether torchrun started this process together with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def speaks() -> bool:
    """Whether this process is the one that reports: rank 0, or the only one."""
    return not launched() or os.environ.get("RANK") == "0"


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the other processes of the job for as long as the block lasts.

    Raises:
        MissingDependency: torch is not installed.
    """
    distributed = require_torch().distributed
    # Ranks wait for the slowest one, however long it writes; one that dies is noticed at once.
    distributed.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        yield Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    finally:
        distributed.destroy_process_group()


def _gone(error: RuntimeError) -> RankGone:
    # gloo says where in its source it noticed, then what, then where else one might look.
    first = "".join(str(error).strip().splitlines()[:1])
    return RankGone(re.sub(r"^\[[^\]]*\] ", "", first).split(". ")[0])
