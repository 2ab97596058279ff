"""The application: its name, its version and its commands."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dcpctl import __version__
from dcpctl.cli.shell import Shell

app = typer.Typer(
    name="dcpctl",
    cls=Shell,
    add_completion=True,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dcpctl {__version__}")
        raise typer.Exit


def _help_all(context: typer.Context, wanted: bool) -> None:
    """Print the help of every command, one below the other: a manual to page through or to keep."""
    if not wanted:
        return
    group: Any = context.command
    typer.echo(context.get_help())
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = type(context)(command, parent=context, info_name=name)
        typer.echo(f"\n{'-' * 80}\n\n{command.get_help(inner)}")
    raise typer.Exit


@app.callback()
def dcpctl(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_version, help="Print the version."),
    ] = False,
    help_all: Annotated[
        bool,
        typer.Option(
            "--help-all", is_eager=True, callback=_help_all, help="Print the help of all commands."
        ),
    ] = False,
) -> None:
    """Read, check and explain PyTorch distributed checkpoints (DCP).

    Nothing in a checkpoint is ever executed, and torch is not imported.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
