"""Real inputs from the committed samples, from which mutations start."""

from __future__ import annotations

from pathlib import Path

from dcpctl.errors import DcpctlError
from dcpctl.formats.torch_zip import open_item
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.entry import BytesEntry
from dcpctl.model.opening import open_checkpoint
from tests.hostile import fake_torch as ft
from tests.hostile.draft import chunk

SAMPLES = Path(__file__).resolve().parents[2] / "sample_checkpoints"
#: Larger inputs are mutated too slowly to be worth it.
LARGEST = 24 << 10
_PER_CHECKPOINT = 12


def seeds() -> dict[str, list[bytes]]:
    """Inputs by target."""
    found: dict[str, list[bytes]] = {
        name: [] for name in ("metadata", "value", "item", "safetensors", "zstd")
    }
    for path in sorted(SAMPLES.rglob("*metadata")):
        found["metadata"].append(path.read_bytes())
    found["metadata"] += [ft.dumps(_many(transforms), 4) for transforms in (False, True)]
    found["metadata"].append(ft.dumps(_many(False), 2))
    for path in sorted(SAMPLES.rglob("*.safetensors")):
        found["safetensors"].append(path.read_bytes())
    for path in sorted(path.parent for path in SAMPLES.rglob(".metadata")):
        try:
            with open_checkpoint(path) as checkpoint:
                _items(checkpoint, found)
        except DcpctlError:
            continue
    found["walk"] = [
        b"".join(found[name][first : first + 3])
        for name in ("item", "zstd")
        for first in range(0, len(found[name]), 3)
    ]
    return {
        name: sorted({data for data in inputs if len(data) <= LARGEST})
        for name, inputs in found.items()
    }


def _items(checkpoint: Checkpoint, found: dict[str, list[bytes]]) -> None:
    storage = checkpoint.parts[0].storage
    for fqn in list(checkpoint)[:: max(1, len(checkpoint) // _PER_CHECKPOINT)]:
        entry = checkpoint[fqn]
        stored = entry if isinstance(entry, BytesEntry) else next(iter(entry.chunks))
        if stored.file < 0 or checkpoint.format != "dcp":
            continue
        name = checkpoint.files[stored.file].name
        data = storage.read(name, stored.offset, stored.length)
        if entry.stored.transforms:
            found["zstd"].append(data)
            continue
        found["item"].append(data)
        opened = open_item(storage, name, stored.offset, stored.length, subject="seed")
        found["value"].append(opened.read("data.pkl"))


def _many(transforms: bool) -> object:
    """Metadata of several tensors in many chunks, so that there are runs of records."""
    entries, storage = {}, {}
    for number in range(6):
        fqn = f"layers.{number}.weight"
        dims = 1 + number % 3
        chunks = [chunk((rank, *[0] * (dims - 1)), (1,) * dims) for rank in range(24)]
        entries[fqn] = ft.TensorStorageMetadata(
            properties=ft.TensorProperties(dtype=ft.dtype("bfloat16")),
            size=ft.Size((24, *[1] * (dims - 1))),
            chunks=chunks,
        )
        for rank, part in enumerate(chunks):
            index = ft.MetadataIndex(fqn=fqn, offset=part.offsets, index=rank)
            info = ft.StorageInfo(
                relative_path=f"__{rank}_0.distcp", offset=number * 5000, length=1000 * rank
            )
            if transforms:
                info.transform_descriptors = ["stream.zstd/1"]
            storage[index] = info
    planner = {fqn: (fqn,) for fqn in entries}
    return ft.Metadata(state_dict_metadata=entries, planner_data=planner, storage_data=storage)
