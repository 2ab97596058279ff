"""What `check` found as Markdown."""

from __future__ import annotations

from typing import TextIO

from dcpctl.check.finding import Checked
from dcpctl.reports import markdown
from dcpctl.reports.check_formats import Look, blocks_of


def write(checked: Checked, stream: TextIO, look: Look) -> None:
    """For a pull request or a job summary."""
    markdown.write(blocks_of(checked, look), stream)
