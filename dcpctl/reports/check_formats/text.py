"""What `check` found as text."""

from __future__ import annotations

from typing import TextIO

from dcpctl.check.finding import Checked
from dcpctl.reports import text
from dcpctl.reports.check_formats import Look, blocks_of


def write(checked: Checked, stream: TextIO, look: Look) -> None:
    """For a terminal."""
    text.write(blocks_of(checked, look), stream, color=look.color)
