"""`dcpctl inspect`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def inspect(
    path: Annotated[Path, typer.Argument(help="A checkpoint, or a run directory.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    chunks: Annotated[bool, typer.Option("--chunks", help="With every chunk.")] = False,
) -> None:
    """Say what a checkpoint holds and whether training can be resumed from it."""
    from dcpctl.errors import NotACheckpoint
    from dcpctl.inspect.runs import list_run
    from dcpctl.inspect.summary import summarize
    from dcpctl.model.opening import open_checkpoint
    from dcpctl.reports.inspect_json import entry_documents, run_document, summary_document
    from dcpctl.reports.json_lines import document

    try:
        checkpoint = open_checkpoint(path)
    except NotACheckpoint:
        saves = list(list_run(path)) if path.is_dir() else []
        if not saves:
            raise
        if not json:
            from dcpctl.reports.render import render
            from dcpctl.reports.run_blocks import run_blocks
            from dcpctl.reports.console import wants_color
            render(run_blocks(str(path), saves), sys.stdout, form="text", color=wants_color("auto", sys.stdout), table_style="simple")
            return
        for piece in document(run_document(str(path), saves)):
            sys.stdout.write(piece)
        return
    with checkpoint:
        summary = summarize(checkpoint)
        if json:
            entries = entry_documents(checkpoint, iter(checkpoint), chunks=chunks)
            for piece in document(summary_document(summary), entries=entries):
                sys.stdout.write(piece)
        else:
            from dcpctl.reports.render import render
            from dcpctl.reports.summary_blocks import summary_blocks
            from dcpctl.reports.console import wants_color
            render(summary_blocks(summary), sys.stdout, form="text", color=wants_color("auto", sys.stdout), table_style="simple")
