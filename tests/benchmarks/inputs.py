"""What is measured: a huge `.metadata` of torch's own classes, and gigabytes of real shards.

Run as `python -m tests.benchmarks.inputs KIND DIRECTORY`, in a process of its own so that its
memory is not counted.
"""

from __future__ import annotations

import pickle
import sys
from collections import ChainMap
from functools import partial
from pathlib import Path
from typing import Any

TENSORS = 1000
RANKS = 1024
SHAPES = ((16384, 4096), (16384,), (16384, 1024), (16384,))
SHARD_TENSORS = 80
SHARD_NUMEL = 17 << 20


def million_chunks(directory: Path) -> None:
    """Write the `.metadata` of 1,000 tensors on 1,024 ranks: 1,024,000 chunks.

    As torch's coordinator does it: it receives each rank's plan in one pickled message, makes the
    global plan of them (`create_default_global_save_plan`), and then receives each rank's results
    in another. So every object that a rank names is the coordinator's own copy for that rank.
    """
    import torch
    from torch.distributed.checkpoint.default_planner import create_default_global_save_plan
    from torch.distributed.checkpoint.filesystem import _StorageInfo
    from torch.distributed.checkpoint.metadata import (
        ChunkStorageMetadata,
        MetadataIndex,
        StorageMeta,
        TensorProperties,
    )
    from torch.distributed.checkpoint.planner import (
        SavePlan,
        TensorWriteData,
        WriteItem,
        WriteItemType,
    )
    from torch.distributed.checkpoint.storage import WriteResult

    def received(sent: object) -> Any:
        return pickle.loads(pickle.dumps(sent))

    names = [f"model.layers.{i // 9}.block{i % 9}.weight" for i in range(TENSORS)]
    plans = []
    for rank in range(RANKS):
        items = []
        for number, name in enumerate(names):
            shape = SHAPES[number % len(SHAPES)]
            rows, rest = shape[0] // RANKS, shape[1:]
            offsets = torch.Size((rank * rows, *(0 for _ in rest)))
            chunk = ChunkStorageMetadata(offsets, torch.Size((rows, *rest)))
            data = TensorWriteData(chunk, TensorProperties(torch.float32), torch.Size(shape))
            index = MetadataIndex(name, offsets)
            items.append(WriteItem(index, WriteItemType.SHARD, tensor_data=data))
        plan = SavePlan(items, planner_data={name: (name,) for name in names})
        plans.append(received(plan))
    plans, metadata = create_default_global_save_plan(plans)
    metadata.planner_data = dict(ChainMap(*(plan.planner_data for plan in plans)))
    storage = {}
    for rank in range(RANKS):
        path, results, position = f"__{rank}_0.distcp", [], 0
        for item in plans[rank].items:
            length = 1577 + 4 * item.tensor_data.chunk.sizes.numel()
            place = _StorageInfo(path, position, length)
            results.append(WriteResult(received(item.index), length, place))
            position += length
        plans[rank] = SavePlan([])
        storage.update({result.index: result.storage_data for result in received(results)})
    metadata.storage_data = storage
    metadata.storage_meta = StorageMeta(checkpoint_id=str(directory))
    with (directory / ".metadata").open("wb") as file:
        pickle.dump(metadata, file)


def gigabytes(directory: Path) -> None:
    """Write a checkpoint of 5.7 GB with stock `dcp.save`, as one process with two files."""
    import torch
    import torch.distributed.checkpoint as dcp

    generator = torch.Generator().manual_seed(0)
    state = {
        f"layers.{number}.weight": torch.rand(SHARD_NUMEL, generator=generator)
        for number in range(SHARD_TENSORS)
    }
    writer = dcp.FileSystemWriter(directory, thread_count=2, sync_files=False)
    dcp.save({"model": state}, storage_writer=writer, no_dist=True)


def training(directory: Path, layers: int = 48, *, seed: int = 0, checksums: bool = True) -> None:
    """Write model and AdamW state with stock `dcp.save`, as one process; 48 layers are 2.7 GB.

    The param groups lack `decoupled_weight_decay`, so that there is something to upgrade.
    """
    import torch
    import torch.distributed.checkpoint as dcp

    torch.serialization.set_crc32_options(checksums)
    generator = torch.Generator().manual_seed(seed)
    names = [f"layers.{number}.weight" for number in range(layers)]
    weights = {name: torch.rand(4608, 1024, generator=generator) for name in names}
    state = {
        name: {
            "step": torch.tensor(8500.0),
            "exp_avg": torch.rand(4608, 1024, generator=generator),
            "exp_avg_sq": torch.rand(4608, 1024, generator=generator),
        }
        for name in names
    }
    group = dict(torch.optim.AdamW([torch.zeros(1)]).state_dict()["param_groups"][0])
    del group["decoupled_weight_decay"]
    group["params"] = names
    whole = {"model": weights, "optimizer": {"state": state, "param_groups": [group]}}
    dcp.save(whole, storage_writer=dcp.FileSystemWriter(directory, sync_files=False), no_dist=True)


KINDS = {
    "million_chunks": million_chunks,
    "gigabytes": gigabytes,
    "training": training,
    "training_twice": partial(training, layers=96),
    "unsummed": partial(training, checksums=False),
    "unsummed_other": partial(training, checksums=False, seed=1),
}


def main() -> None:
    """Make one input."""
    kind, directory = sys.argv[1:]
    KINDS[kind](Path(directory))


if __name__ == "__main__":
    main()
