"""`dcpctl merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcpctl.cli.surgery_options import Run, with_run_anew
from dcpctl.errors import UsageError


@with_run_anew
def merge(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="SRC... DST", help="Checkpoints, and the directory to make.", show_default=False
        ),
    ],
    *,
    run: Run,
) -> None:
    """Put several checkpoints together into one.

    The model's directory and the optimizer's, or the parts of a pipeline (one SRC that holds pp0/,
    pp1/ ... counts as its parts). A key that several have must stand for the same in all of them.
    Param groups may differ in their params lists, which are joined.

    Examples:
      dcpctl select sample_checkpoints/healthy/step-8500 out/a --model-only
      dcpctl drop sample_checkpoints/healthy/step-8500 out/b --model-only
      dcpctl merge out/a out/b out/whole
    """
    from dcpctl.surgery.edits import Merge

    if run.in_place:
        raise UsageError("a merge makes a new directory, so there is no --in-place")
    if len(paths) < 2:
        raise UsageError("no destination", hint="dcpctl merge SRC... DST")
    source, *others, target = paths
    run.carry_out("merge", source, target, [Merge(tuple(others))])
