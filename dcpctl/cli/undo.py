"""`dcpctl undo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def undo(
    path: Annotated[Path, typer.Argument(help="An edited checkpoint.", show_default=False)],
) -> None:
    """Take back the last edit that was made with --in-place.

    The metadata from before it are put back, and the file that the edit wrote is removed. Edits
    are taken back one by one, the last first.

    Examples:
      dcpctl set sample_checkpoints/healthy/step-8500 out/edited lr=1e-4
      dcpctl set out/edited step=9000 --in-place
      dcpctl undo out/edited
    """
    from dcpctl.errors import quote
    from dcpctl.writing.undo import undo as take_back

    take_back(path)
    sys.stdout.write(f"{quote(path)} is as it was before its last edit in place\n")
