"""`--model-only` and `--optimizer-only`."""

from __future__ import annotations

from typing import Annotated

import typer

from dcpctl.errors import UsageError

ModelOnly = Annotated[bool, typer.Option("--model-only", help="Only keys of the model.")]
OptimizerOnly = Annotated[
    bool, typer.Option("--optimizer-only", help="Only keys of the optimizer.")
]


def section_of(model_only: bool, optimizer_only: bool) -> str | None:
    """Return the section that the two flags choose; None for all.

    Raises:
        UsageError: both are given.
    """
    if model_only and optimizer_only:
        raise UsageError("--model-only and --optimizer-only contradict")
    return "model" if model_only else "optimizer" if optimizer_only else None
