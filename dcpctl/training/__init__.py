"""Guards for a training script: fail before the silent reset, not one save later. Imports torch."""

from __future__ import annotations

from dcpctl.torch_bridge import require_torch

require_torch()  # before all below, whose own `import torch` would not say what to install

from dcpctl.training.errors import LoadRefused, UnresumedState  # noqa: E402
from dcpctl.training.planner import StrictLoadPlanner  # noqa: E402
from dcpctl.training.preview import Preview, preview_load  # noqa: E402
from dcpctl.training.resumed import assert_resumed  # noqa: E402

__all__ = [
    "LoadRefused",
    "Preview",
    "StrictLoadPlanner",
    "UnresumedState",
    "assert_resumed",
    "preview_load",
]
