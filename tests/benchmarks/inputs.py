"""What is measured: a huge `.metadata` of torch's own classes, and gigabytes of real shards.

Run as `python -m tests.benchmarks.inputs KIND DIRECTORY`, in a process of its own so that its
memory is not counted.
"""

from __future__ import annotations

import pickle
import sys
from functools import partial
from pathlib import Path

TENSORS = 1000
RANKS = 1024
SHAPES = ((16384, 4096), (16384,), (16384, 1024), (16384,))
SHARD_TENSORS = 80
SHARD_NUMEL = 17 << 20


def million_chunks(directory: Path) -> None:
    """Write the `.metadata` of 1,000 tensors on 1,024 ranks: 1,024,000 chunks.

    The order and the sharing of objects are those of a real save: the coordinator receives each
    rank's results in one message, so an FQN is one string object a rank and a path one a rank.
    """
    import torch
    from torch.distributed.checkpoint.filesystem import _StorageInfo
    from torch.distributed.checkpoint.metadata import (
        ChunkStorageMetadata,
        Metadata,
        MetadataIndex,
        StorageMeta,
        TensorProperties,
        TensorStorageMetadata,
    )

    names = [f"model.layers.{i // 9}.block{i % 9}.weight" for i in range(TENSORS)]
    entries = {}
    for number, name in enumerate(names):
        shape = SHAPES[number % len(SHAPES)]
        rows, rest = shape[0] // RANKS, shape[1:]
        chunks = [
            ChunkStorageMetadata(
                torch.Size((rank * rows, *(0 for _ in rest))), torch.Size((rows, *rest))
            )
            for rank in range(RANKS)
        ]
        entries[name] = TensorStorageMetadata(
            TensorProperties(torch.float32), torch.Size(shape), chunks
        )
    storage = {}
    for rank in range(RANKS):
        path = f"__{rank}_0.distcp"
        position = 0
        for name in names:
            chunk = entries[name].chunks[rank]
            length = 1577 + 4 * chunk.sizes.numel()
            own_name = "".join(name)  # another object with the same text
            index = MetadataIndex(own_name, torch.Size(tuple(chunk.offsets)), rank)
            storage[index] = _StorageInfo(path, position, length)
            position += length
    metadata = Metadata(entries, {name: (name,) for name in names}, storage)
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
