"""`dcpctl contract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcpctl.cli.options import Color, Form, Output, OutputOption


def contract(
    path: Annotated[Path, typer.Argument(help="A checkpoint.", show_default=False)],
    digest: Annotated[
        bool, typer.Option("--digest", help="Print only the digest, one word.")
    ] = False,
    output: OutputOption = None,
) -> None:
    """Write down what a checkpoint holds: keys, shapes, dtypes, optimizer and group keys.

    The contract is JSON, one key a line and sorted: the saves of a healthy run have the same one,
    to the byte and to the digest in it. dcpctl check --like compares a checkpoint with it, and so
    does a policy that names it.

    Examples:
      dcpctl contract sample_checkpoints/healthy/step-8500
      dcpctl contract sample_checkpoints/healthy/step-8500 --output contract.json
      dcpctl contract sample_checkpoints/healthy/step-8500 --digest
    """
    out = Output.of(Form.JSON, False, output, None, Color.NEVER)
    from dcpctl.model.contract import contract_of
    from dcpctl.model.contract_file import contract_lines
    from dcpctl.model.contract_file import digest as digest_of
    from dcpctl.model.opening import open_checkpoint

    with open_checkpoint(path) as checkpoint:
        made = contract_of(checkpoint)
    out.pieces([f"{digest_of(made)}\n"] if digest else contract_lines(made))
