"""Every example with the bug, with the bug and no guard, and with the fix; run under torchrun.

    torchrun ... examples_job.py DIR

Rank 0 writes DIR/examples.json: `example flags` -> (exit code, what it printed).
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import torch.distributed as dist

from dcpctl.training.examples import fsdp1, fsdp2, titan


def main() -> None:
    """Run all."""
    folder = Path(sys.argv[1])
    dist.init_process_group("gloo")
    seen = {}
    for module in (fsdp2, fsdp1, titan):
        name = module.__name__.rpartition(".")[2]
        for flags in ([], ["--bug"], ["--bug", "--unguarded"]):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                where = folder / "-".join([name, *flags]).replace("---", "-")
                code = module.main([str(where), *flags])
            seen[" ".join([name, *flags])] = (code, printed.getvalue())
    if dist.get_rank() == 0:
        (folder / "examples.json").write_text(json.dumps(seen, indent=1))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
