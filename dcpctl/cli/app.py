"""The application: its name, its version and its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from dcpctl import __version__
from dcpctl.cli.shell import Shell

app = typer.Typer(
    name="dcpctl",
    cls=Shell,
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dcpctl {__version__}")
        raise typer.Exit


@app.callback()
def dcpctl(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_version, help="Print the version."),
    ] = False,
) -> None:
    """Read, check and explain PyTorch distributed checkpoints (DCP).

    Nothing in a checkpoint is ever executed, and torch is not imported.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
