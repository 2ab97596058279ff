"""Where text goes: how wide it is, and whether it may have colours."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

#: Columns of prose where nobody says how wide the output is.
PROSE = 100
_NARROWEST = 24


def wants_color(color: str, stream: TextIO) -> bool:
    """Decide on colours; without them not one escape code is written, bold included.

    Args:
        color: `always`, `never` or `auto`. Auto heeds NO_COLOR, then FORCE_COLOR, then asks
            whether the stream is a terminal, and one that is not dumb.
        stream: where the text goes.
    """
    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    forced = os.environ.get("FORCE_COLOR")
    if forced:
        return forced != "0"
    return os.environ.get("TERM") not in ("dumb", "unknown") and _is_terminal(stream)


def width_of(stream: TextIO) -> int | None:
    """Columns of the stream: COLUMNS, else the terminal's own; None where nothing says."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns):
        return max(_NARROWEST, int(columns))
    if not _is_terminal(stream):
        return None
    try:
        return max(_NARROWEST, os.get_terminal_size(stream.fileno()).columns or 80)
    except (OSError, ValueError):
        return 80


def make_console(stream: TextIO, *, color: bool, width: int) -> Console:
    """Return Rich's console for a stream: sixteen colours, so that themes apply, or none."""
    from rich.console import Console

    return Console(
        file=stream,
        color_system="standard" if color else None,
        force_terminal=color,
        no_color=not color,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
        legacy_windows=False,
    )


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False
