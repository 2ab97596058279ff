"""Training jobs that run on CPUs, each with the bug and with the fix.

    torchrun --nproc-per-node 2 -m dcpctl.training.examples.fsdp2 /tmp/run
    torchrun --nproc-per-node 2 -m dcpctl.training.examples.fsdp2 /tmp/run --bug
    torchrun --nproc-per-node 2 -m dcpctl.training.examples.fsdp2 /tmp/run --bug --unguarded

`fsdp2` is plain PyTorch with get_state_dict. `fsdp1` is `StateDictType.SHARDED_STATE_DICT`, and
goes on from what an older torch saved. `titan` has torchtitan's `Stateful` wrappers. Each trains,
saves, goes on to the end, starts anew from the save, and compares the losses. Without a flag they
are equal. `--bug` loads as people do who lose their optimizer: `StrictLoadPlanner` refuses it. With
`--unguarded` stock `dcp.load` takes it without a word, and `assert_resumed` finds it before the
first step.
"""
