"""`dcpctl upgrade`."""

from __future__ import annotations

from typing import Annotated

import typer

from dcpctl.cli.surgery_options import (
    OptimizerOfOption,
    Run,
    SourceArgument,
    TargetArgument,
    pairs_of,
    with_run,
)

TorchOption = Annotated[
    str | None,
    typer.Option(
        "--torch",
        metavar="X.Y",
        help="The release that is to load it. [default: the installed one]",
    ),
]
OptimizerOption = Annotated[
    str | None,
    typer.Option("--optimizer", metavar="NAME", help="The optimizer's class: adam, adamw ..."),
]
OptimizerKeysOption = Annotated[
    str | None,
    typer.Option(
        "--optimizer-keys", metavar="fqn|index|flat", help="How the optimizer names its parameters."
    ),
]
FillOption = Annotated[
    str | None,
    typer.Option(
        "--fill-missing-state",
        metavar="zeros",
        help="Give parameters without optimizer state a new one.",
    ),
]

WrappersOption = Annotated[
    bool | None,
    typer.Option(
        "--wrappers/--no-wrappers",
        help="Strip module. also where all names have it; or no wrapper name. "
        "[default: those that leaked]",
        show_default=False,
    ),
]


@with_run
def upgrade(
    source: SourceArgument,
    target: TargetArgument = None,
    torch: TorchOption = None,
    optimizer: OptimizerOption = None,
    optimizer_keys: OptimizerKeysOption = None,
    fill_missing_state: FillOption = None,
    wrappers: WrappersOption = None,
    optimizer_of: OptimizerOfOption = None,
    *,
    run: Run,
) -> None:
    """Bring a checkpoint into the form that a torch release loads; values stay bit for bit.

    Adds the param_groups keys that the release's optimizer asks for with its own defaults, opens
    pickled param groups, strips wrapper names that leaked into some keys, and writes metadata that
    the release reads. The release may be newer or older than the one that wrote it. Where the
    optimizer cannot be told and its defaults matter, it asks for --optimizer.

    Examples:
      dcpctl upgrade sample_checkpoints/legacy out/upgraded --torch 2.13 --optimizer adamw
      dcpctl upgrade sample_checkpoints/releases/2.15.0-optim_AdamW out/older --torch 2.13
    """
    from dcpctl.surgery.edits import Upgrade

    path = run.alone(target)
    edit = Upgrade(
        torch,
        optimizer,
        optimizer_keys,
        fill_missing_state,
        wrappers=wrappers,
        optimizer_of=pairs_of(optimizer_of),
    )
    run.carry_out("upgrade", source, path, [edit])
