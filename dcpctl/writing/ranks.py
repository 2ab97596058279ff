"""The processes that torchrun started: which one this is, and how they tell each other things."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dcpctl.errors import DcpctlError
from dcpctl.torch_bridge import require_torch


class RankFailed(DcpctlError):
    """Another process of the job failed or is gone, so that this one stopped too."""

    id = "rank-failed"
    exit_code = 5


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
            RankFailed: one of them is gone.
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
            RankFailed: one of them is gone.
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


def _gone(error: RuntimeError) -> RankFailed:
    first = str(error).strip().splitlines()[:1]
    return RankFailed(
        f"another process of the job is gone ({''.join(first)}); nothing was published",
        hint="continue with --resume",
    )
