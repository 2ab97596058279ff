"""A reshard as one rank of a torchrun job does it, which may be made to die at one of its steps.

torchrun ... ranks_job.py SRC DST WORLD_SIZE [--die RANK:STEP] [--resume]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import nullcontext

from dcpctl.cli.main import main
from dcpctl.writing.steps import observed


def run() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("world_size")
    parser.add_argument("--die")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    rank, _, last = (options.die or "").partition(":")

    def die(step: str) -> None:
        if step.startswith(last):
            os.kill(os.getpid(), signal.SIGKILL)

    dies = options.die is not None and os.environ.get("RANK") == rank
    command = ["reshard", options.source, options.target, "--world-size", options.world_size]
    sys.argv = ["dcpctl", *command, *(["--resume"] if options.resume else [])]
    with observed(die) if dies else nullcontext():
        main()


if __name__ == "__main__":
    run()
