"""The console script: start the application, and end quietly when interrupted on the way."""

import atexit
import gc
import os
import sys

from dcpctl.cli import interrupts

#: Objects made before the garbage collector looks at them; Python's own default is 700.
_COLLECT_AFTER = 200_000


def main() -> None:
    """Run `dcpctl` with the process's arguments and exit with the documented code."""
    interrupts.watch()
    # A command lives for a moment and makes few cycles. Looking for them while it starts, and in
    # every module once more when it ends, takes a sixth of a short command's time.
    gc.set_threshold(_COLLECT_AFTER, 50, 50)
    atexit.register(gc.freeze)
    _open_streams()
    from dcpctl.cli.app import app

    app(prog_name="dcpctl")


def _open_streams() -> None:
    """Put the null device where a standard stream is closed.

    Else the next file to be opened takes its descriptor, and what is printed goes into a shard.
    """
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
