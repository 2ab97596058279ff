"""`dcpctl cast`."""

from __future__ import annotations

from typing import Annotated

import typer

from dcpctl.cli.surgery_options import GlobsArgument, Run, SourceArgument, TargetArgument, with_run


@with_run
def cast(
    source: SourceArgument,
    target: TargetArgument = None,
    globs: GlobsArgument = None,
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="DTYPE", help="bf16, fp16, fp32, float8_e4m3fn ...")
    ] = ...,  # type: ignore[assignment]  # typer's mark of a required option
    allow_lossy: Annotated[
        bool, typer.Option("--allow-lossy", help="Cast also where numbers are rounded or lost.")
    ] = False,
    *,
    run: Run,
) -> None:
    """Cast floating-point tensors to another dtype.

    Without a glob all of the model. Optimizer state is cast only by a glob that is about nothing
    else (optimizer.*, *.exp_avg), and step only by one that ends in step. A cast that cannot keep
    every number is refused without --allow-lossy, and with it says what is lost.

    Examples:
      dcpctl cast sample_checkpoints/healthy/step-8500 out/bf16 --dtype bf16 --allow-lossy
      dcpctl cast sample_checkpoints/healthy/step-8500 out/f64 'model.layers.0' --dtype fp64
    """
    from dcpctl.surgery.cast import dtype_named
    from dcpctl.surgery.edits import Cast

    path, keys = run.destination(target, globs, "")
    edit = Cast(dtype_named(dtype), tuple(keys), allow_lossy)
    run.carry_out("cast", source, path, [edit])
