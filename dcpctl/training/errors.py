"""What the guards of a training script raise.

They are read in a job's log, so that the fix stands in the message and not in a hint beside it, and
they cross ranks, so that each can be pickled.
"""

from __future__ import annotations

from dcpctl.errors import DcpctlError, Refused


class LoadRefused(Refused):
    """`StrictLoadPlanner` stopped a load before any byte of it was read.

    torch wraps it in a `torch.distributed.checkpoint.CheckpointException` (which is no
    `Exception`) and raises that on every rank; `.failures` has this error.
    """

    id = "load-refused"


class UnresumedState(DcpctlError):
    """`assert_resumed` found that memory does not hold what the checkpoint has."""

    id = "unresumed-state"
    exit_code = 1
