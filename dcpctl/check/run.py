"""What the rules of one check share: the checkpoint, the options and what was read already."""

from __future__ import annotations

from functools import cached_property

from dcpctl import torch_bridge
from dcpctl.check.options import CheckOptions
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.optimizer.view import OptimizerView


class Run:
    """One check of one checkpoint.

    Args:
        checkpoint: opened.
        options: what was asked.
    """

    def __init__(self, checkpoint: Checkpoint, options: CheckOptions) -> None:
        self.checkpoint = checkpoint
        self.options = options

    @cached_property
    def target(self) -> str | None:
        """The torch release that the checkpoint shall load in; None if none is known."""
        return self.options.torch or torch_bridge.installed_version()

    @cached_property
    def optimizer(self) -> OptimizerView:
        """What the checkpoint says of its optimizer."""
        return OptimizerView(self.checkpoint)
