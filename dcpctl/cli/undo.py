"""`dcpctl undo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcpctl.cli.options import (
    Color,
    ColorOption,
    FormOption,
    JsonOption,
    Output,
    OutputOption,
    StyleOption,
)


def undo(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="An edited checkpoint.", show_default=False)
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be undone, and do nothing.")
    ] = False,
    form: FormOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
    table_style: StyleOption = None,
    color: ColorOption = Color.AUTO,
) -> None:
    """Take back the last edit that was made with --in-place.

    The metadata from before it is put back, and the shard file that it added is removed. Edits
    are taken back one by one, the last first. A checkpoint that was saved again since is refused.

    Examples:
      dcpctl set sample_checkpoints/healthy/step-8500 out/edited lr=1e-4
      dcpctl set out/edited step=9000 --in-place
      dcpctl undo out/edited
    """
    out = Output.of(form, json, output, table_style, color)
    from dcpctl.reports.surgery import undo_blocks, undo_document
    from dcpctl.writing.undo import undo as take_back

    undone = take_back(path, dry_run=dry_run)
    if out.is_json:
        from dcpctl.reports.json_lines import document

        out.pieces(document(undo_document(undone, dry_run=dry_run)))
    else:
        out.blocks(undo_blocks(undone, dry_run=dry_run))
