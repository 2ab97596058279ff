"""What `check` found as tables."""

from __future__ import annotations

from typing import TextIO

from dcpctl.check.finding import Checked
from dcpctl.reports import tabulated
from dcpctl.reports.check_formats import Look, blocks_of


def write(checked: Checked, stream: TextIO, look: Look) -> None:
    """In one of tabulate's styles."""
    tabulated.write(blocks_of(checked, look), stream, style=look.table_style)
