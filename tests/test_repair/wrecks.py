"""Broken checkpoints, and repairs of them from beginning to end."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dcpctl.formats.metadata_emit import emit_metadata
from dcpctl.formats.records import StoredCheckpoint, StoredTensor
from dcpctl.formats.torch_zip_emit import value_item
from dcpctl.model.opening import open_checkpoint
from dcpctl.repair import engine
from dcpctl.repair.engine import Mended
from dcpctl.repair.found import VALUE, Found
from dcpctl.repair.options import RepairOptions
from dcpctl.repair.record import with_record
from dcpctl.repair.survey import placed
from dcpctl.repair.wanted import wanted_items
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.write import write
from tests import corruptors
from tests.test_writing.building import hashes

#: A run with three saves of one layout: (wreck, an older or newer save of the same run).
RUN = "silent_reset"
WRECK, SIBLING = f"{RUN}/step-9000", f"{RUN}/step-9500"


def wreck(source: Path, target: Path, *, metadata: bool = False) -> Path:
    """A copy of a checkpoint, by default without metadata, as an interrupted save leaves it."""
    corruptors.copy(source, target)
    if not metadata:
        for file in (*target.glob(".metadata"), *target.glob("__*.metadata")):
            file.unlink()
    return target


def mend(
    verb: str, source: Path, target: Path, sibling: Path | None = None, **options: Any
) -> Mended:
    """Repair or salvage and write, and see that the sources stay as they were."""
    before = hashes(source), None if sibling is None else hashes(sibling)
    with ExitStack() as opened:
        other = None if sibling is None else opened.enter_context(open_checkpoint(sibling))
        work = {"repair": engine.repair, "salvage": engine.salvage}[verb]
        try:
            mended = work(source, other, RepairOptions(**options), opened)
            writing = WriteOptions(progress=False)
            made = plan(mended.draft, target, writing)
            write(with_record(made, verb, source, sibling, mended), writing)
        finally:
            assert before == (hashes(source), None if sibling is None else hashes(sibling))
    return mended


def meaning(stored: StoredCheckpoint) -> dict[str, Any]:
    """Where every chunk and bytes entry lies, by names, and what it is of."""
    found: dict[str, Any] = {}
    for fqn, entry in stored.entries.items():
        if isinstance(entry, StoredTensor):
            places = [
                (c.offsets, c.sizes, c.file >= 0 and stored.files[c.file], c.offset, c.length)
                for c in entry.chunks
            ]
            found[fqn] = entry.shape, entry.dtype, entry.transforms, places
        else:
            found[fqn] = stored.files[entry.file], entry.offset, entry.length, entry.transforms
    return found


def meaning_of(path: Path) -> dict[str, Any]:
    """The same of a checkpoint."""
    with open_checkpoint(path) as checkpoint:
        return meaning(checkpoint.parts[0].stored)


def numbers_of(path: Path) -> dict[str, Any]:
    """FQN to the bytes of a tensor, or the repr of an object."""
    with open_checkpoint(path) as checkpoint:
        return {
            fqn: entry.numpy().tobytes() if fqn in checkpoint.tensors else repr(entry.value)
            for fqn, entry in checkpoint.entries.items()
        }


def keys_in(path: Path, name: str) -> set[str]:
    """The keys that have an item in a shard file."""
    with open_checkpoint(path) as checkpoint:
        number = [file.name for file in checkpoint.files].index(name)
        return {
            fqn
            for fqn, entry in checkpoint.entries.items()
            if number in (entry.chunks.file if fqn in checkpoint.tensors else (entry.file,))
        }


def places_in(path: Path, name: str) -> list[tuple[int, int]]:
    """Offset and length of the items in a shard file, in order."""
    with open_checkpoint(path) as checkpoint:
        number = [file.name for file in checkpoint.files].index(name)
        found = set()
        for entry in checkpoint.tensors.values():
            found |= {(c.offset, c.length) for c in entry.chunks if c.file == number}
        for value in checkpoint.bytes_entries.values():
            if value.file == number:
                found.add((value.offset, value.length))
        return sorted(found)


def longer(source: Path, target: Path) -> Path:
    """The same save with longer objects, as another step may have: and what is behind moves."""
    target.mkdir()
    with open_checkpoint(source) as checkpoint:
        stored = checkpoint.parts[0].stored
        wanted = wanted_items(stored)
        found: list[dict[int, Found]] = []
        for name, items in zip(stored.files, wanted, strict=True):
            data, at = (source / name).read_bytes(), 0
            places = {}
            with (target / name).open("wb") as file:
                for number, item in enumerate(items):
                    longer = value_item(f"{number}" * 300) if item.kind == VALUE else None
                    content = longer or data[item.offset : item.offset + item.length]
                    places[number] = Found(at, len(content))
                    at += file.write(content)
            found.append(places)
        (target / ".metadata").write_bytes(emit_metadata(placed(stored, wanted, found)))
    return target
