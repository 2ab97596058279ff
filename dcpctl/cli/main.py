"""The console script: start the application, and end quietly when interrupted on the way."""

from __future__ import annotations

import atexit
import gc
import sys

#: Objects made before the garbage collector looks at them; Python's own default is 700.
_COLLECT_AFTER = 200_000


def main() -> None:
    """Run `dcpctl` with the process's arguments and exit with the documented code."""
    # A command lives for a moment and makes few cycles. Looking for them while it starts, and in
    # every module once more when it ends, takes a sixth of a short command's time.
    gc.set_threshold(_COLLECT_AFTER, 50, 50)
    atexit.register(gc.freeze)
    try:
        from dcpctl.cli.app import app
    except KeyboardInterrupt:
        sys.exit(130)
    app(prog_name="dcpctl")
