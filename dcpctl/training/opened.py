"""A checkpoint by its directory, or one that is open already."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.opening import open_checkpoint


@contextmanager
def opened(checkpoint: str | os.PathLike[str] | Checkpoint) -> Iterator[Checkpoint]:
    """Open a checkpoint and close it afterwards; one that is open stays open."""
    if isinstance(checkpoint, Checkpoint):
        yield checkpoint
        return
    with open_checkpoint(checkpoint) as made:
        yield made
