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
    add: Annotated[
        list[str] | None,
        typer.Option(
            "--add", metavar="KEY=VALUE", help="Give param groups a key that they lack; =@lr."
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

    --add gives param groups a key that they lack, in whatever form they are stored: a scheduler
    that resumes asks for initial_lr. KEY is the key alone (all groups) or a place with globs, such
    as optimizer.param_groups.*.initial_lr; @lr stands for what the same group has for lr. Groups
    that have the key keep it.

    Examples:
      dcpctl set sample_checkpoints/healthy/step-8500 out/slow lr=1e-4 weight_decay=0.05
      dcpctl set out/slow optimizer.param_groups.0.betas=0.9,0.99 --in-place
      dcpctl set sample_checkpoints/healthy/step-8500 out/late step=9000 train_state.step=9000
      dcpctl set sample_checkpoints/legacy out/base --add initial_lr=3e-4
    """
    from dcpctl.surgery.edits import Set
    from dcpctl.surgery.set import assignment

    path, texts = run.destination(target, values, "" if add else "KEY=VALUE")
    assignments = tuple(assignment(text) for text in texts)
    added = tuple(assignment(text) for text in add or ())
    run.carry_out("set", source, path, [Set(assignments, change_type, fill, added)])
