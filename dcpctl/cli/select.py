"""`dcpctl select`."""

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
def select(
    source: SourceArgument,
    target: TargetArgument = None,
    globs: GlobsArgument = None,
    model_only: ModelOnly = False,
    optimizer_only: OptimizerOnly = False,
    with_state: Annotated[
        bool,
        typer.Option(
            "--with-state", help="Keep also the optimizer state of the selected parameters."
        ),
    ] = False,
    optimizer_of: OptimizerOfOption = None,
    *,
    run: Run,
) -> None:
    """Keep some keys, and leave out all others.

    With --with-state the optimizer keeps the state of the selected parameters, and its param
    groups with the names of these alone. --model-only and --optimizer-only choose among the keys
    of the model or the optimizer, and without a glob all of them.

    Examples:
      dcpctl select sample_checkpoints/healthy/step-8500 out/model --model-only
      dcpctl select sample_checkpoints/healthy/step-8500 out/layer 'model.layers.0' --with-state
      dcpctl select sample_checkpoints/legacy out/moments '*.exp_avg' '*.exp_avg_sq'
    """
    from dcpctl.surgery.edits import Select

    section = section_of(model_only, optimizer_only)
    path, keys = run.destination(target, globs, "" if section else "GLOB")
    run.carry_out(
        "select", source, path, [Select(tuple(keys), section, with_state, pairs_of(optimizer_of))]
    )
