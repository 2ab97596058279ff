"""The console script: start the application, and end quietly when interrupted on the way."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `dcpctl` with the process's arguments and exit with the documented code."""
    try:
        from dcpctl.cli.app import app
    except KeyboardInterrupt:
        sys.exit(130)
    app(prog_name="dcpctl")
