"""What torch does for another layout: load everything, save everything."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Load the checkpoint of the first argument whole and save it to the second."""
    import torch
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    source, destination = (Path(argument) for argument in sys.argv[1:])
    metadata = dcp.FileSystemReader(source).read_metadata()
    state = {
        fqn: torch.empty(entry.size, dtype=entry.properties.dtype)
        if isinstance(entry, TensorStorageMetadata)
        else None
        for fqn, entry in metadata.state_dict_metadata.items()
    }
    dcp.load(state, checkpoint_id=source, no_dist=True)
    writer = dcp.FileSystemWriter(destination, thread_count=3, sync_files=False)
    dcp.save(state, storage_writer=writer, no_dist=True)


if __name__ == "__main__":
    main()
