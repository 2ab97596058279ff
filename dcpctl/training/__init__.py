"""Guards for a training script: fail before the silent reset, not one save later. Imports torch."""

from __future__ import annotations

from dcpctl.training.errors import LoadRefused, UnresumedState
from dcpctl.training.planner import StrictLoadPlanner
from dcpctl.training.preview import Preview, preview_load
from dcpctl.training.resumed import assert_resumed

__all__ = [
    "LoadRefused",
    "Preview",
    "StrictLoadPlanner",
    "UnresumedState",
    "assert_resumed",
    "preview_load",
]
