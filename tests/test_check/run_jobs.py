"""A training job that is resumed well and badly, for the tests of DCP6xx; run under torchrun.

    torchrun ... -m tests.test_check.run_jobs WHAT --dir DIR

WHAT is a list of `train:A-B`, `save:NAME`, `load:NAME`, `restart` as the story job of
`tests/test_surgery` knows them, and of `load-model:NAME` (what the silent
reset does) and `load-step:NAME` (the same, with `step` put right by hand).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    set_model_state_dict,
)

from tests.test_surgery import story_job


class Job(story_job.Job):
    """The story job, and two ways to resume it that lose the moments."""

    def load_model(self, name: str) -> None:
        """Load the model alone, with stock dcp.load."""
        state = {"model": get_model_state_dict(self.model)}
        dcp.load(state, checkpoint_id=self.options.dir / name)
        set_model_state_dict(self.model, state["model"])

    def load_step(self, name: str) -> None:
        """Load the model, and set every parameter's `step` to the number in the name."""
        self.load_model(name)
        self._fill_state()
        for state in self.optimizer.state.values():
            state["step"].fill_(float(name.rpartition("-")[2]))
            state["exp_avg"].zero_()
            state["exp_avg_sq"].zero_()


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="+")
    parser.add_argument("--dir", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    job = Job(argparse.Namespace(dir=options.dir, strategy="fsdp2", wrapped=False, names="clean"))
    for what in options.what:
        name, _, argument = what.partition(":")
        getattr(job, name.replace("-", "_"))(*([argument] if argument else []))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
