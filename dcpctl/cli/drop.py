"""`dcpctl drop`."""

from __future__ import annotations

from typing import Annotated

import typer

from dcpctl.cli.sections import ModelOnly, OptimizerOnly, section_of
from dcpctl.cli.surgery_options import (
    GlobsArgument,
    OptimizerOfOption,
    Run,
    SourceArgument,
    TargetArgument,
    pairs_of,
    with_run,
)


@with_run
def drop(
    source: SourceArgument,
    target: TargetArgument = None,
    globs: GlobsArgument = None,
    model_only: ModelOnly = False,
    optimizer_only: OptimizerOnly = False,
    with_state: Annotated[
        bool,
        typer.Option("--with-state", help="Drop also the optimizer state of dropped parameters."),
    ] = False,
    optimizer_of: OptimizerOfOption = None,
    *,
    run: Run,
) -> None:
    """Leave out keys.

    A dropped parameter of the model keeps its optimizer state and its place in params lists;
    --with-state takes them too. --model-only and --optimizer-only choose among the keys of the
    model or the optimizer, and without a glob all of them.

    Examples:
      dcpctl drop sample_checkpoints/healthy/step-8500 out/no-scheduler 'lr_scheduler.*'
      dcpctl drop sample_checkpoints/healthy/step-8500 out/short 'model.layers.1' --with-state
      dcpctl drop sample_checkpoints/healthy/step-8500 out/weights --optimizer-only
      dcpctl drop out/weights train_state --in-place
    """
    from dcpctl.surgery.edits import Drop

    section = section_of(model_only, optimizer_only)
    path, keys = run.destination(target, globs, "" if section else "GLOB")
    run.carry_out(
        "drop", source, path, [Drop(tuple(keys), section, with_state, pairs_of(optimizer_of))]
    )
