"""`dcpctl set`."""

from __future__ import annotations

from typing import Annotated

import typer

from dcpctl.cli.surgery_options import Run, SourceArgument, TargetArgument, with_run


@with_run
def set(
    source: SourceArgument,
    target: TargetArgument = None,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="lr=1e-4 sets all param groups.", show_default=False
        ),
    ] = None,
    change_type: Annotated[
        bool, typer.Option("--change-type", help="Take values of another type.")
    ] = False,
    fill: Annotated[
        bool, typer.Option("--fill", help="Set every element of tensors that have several.")
    ] = False,
    *,
    run: Run,
) -> None:
    """Set hyperparameters, steps or any other value.

    KEY is a whole key, a glob, or the bare name of a hyperparameter (all param groups) or of a
    state slot (all parameters): lr, weight_decay, betas, step. A value keeps its type, and a tensor
    its dtype and shape; a negative lr or a beta of 1 is refused as torch would. Values are written
    1e-4, true, null, 0.9,0.95 or 'text'.

    Examples:
      dcpctl set sample_checkpoints/healthy/step-8500 out/slow lr=1e-4 weight_decay=0.05
      dcpctl set out/slow optimizer.param_groups.0.betas=0.9,0.99 --in-place
      dcpctl set sample_checkpoints/healthy/step-8500 out/late step=9000 train_state.step=9000
    """
    from dcpctl.surgery.edits import Set
    from dcpctl.surgery.set import assignment

    path, texts = run.destination(target, values, "KEY=VALUE")
    assignments = tuple(assignment(text) for text in texts)
    run.carry_out("set", source, path, [Set(assignments, change_type, fill)])
