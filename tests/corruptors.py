"""Named ways to damage the files of a checkpoint. Bits are flipped by XOR, so that they do change.

Each works in place on a copy that the caller made (`copy`). What is wrong in the metadata instead
of in the files is made with `tests.hostile.draft`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from dcpctl.formats.torch_zip import TorchItem, open_item
from dcpctl.formats.zip_directory import ZipRecord
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.entry import TensorEntry
from dcpctl.model.opening import open_checkpoint
from dcpctl.storage.local import LocalStorage


def copy(source: Path, target: Path) -> Path:
    """A copy of a checkpoint that may be damaged; links stay links."""
    return Path(shutil.copytree(source, target, symlinks=True))


def flip_bit(file: Path, offset: int, mask: int = 0x40) -> None:
    """XOR one byte."""
    with file.open("r+b") as handle:
        handle.seek(offset)
        old = handle.read(1)[0]
        handle.seek(offset)
        handle.write(bytes([old ^ mask]))


def truncate(file: Path, size: int) -> None:
    """Cut a file to `size` bytes; a negative size counts from its end."""
    with file.open("r+b") as handle:
        handle.truncate(size if size >= 0 else file.stat().st_size + size)


def append(file: Path, data: bytes) -> None:
    """Add bytes at the end."""
    with file.open("ab") as handle:
        handle.write(data)


def swap(file: Path, first: int, second: int, length: int) -> None:
    """Exchange two ranges of equal length."""
    data = bytearray(file.read_bytes())
    a, b = data[first : first + length], data[second : second + length]
    data[first : first + length], data[second : second + length] = b, a
    file.write_bytes(data)


def exchange_files(first: Path, second: Path) -> None:
    """Give two files each other's names."""
    spare = first.with_name(first.name + ".spare")
    first.rename(spare)
    second.rename(first)
    spare.rename(second)


def link_outside(file: Path, elsewhere: Path) -> None:
    """Move a file to another directory and leave a symbolic link."""
    elsewhere.mkdir(parents=True, exist_ok=True)
    moved = elsewhere / file.name
    file.rename(moved)
    file.symlink_to(moved)


def patch(file: Path, old: bytes, new: bytes, count: int = 1) -> None:
    """Replace bytes by as many others, which a pickle without frames does not notice."""
    assert len(old) == len(new)
    data = file.read_bytes()
    assert old in data
    file.write_bytes(data.replace(old, new, count))


def flip_data(directory: Path, fqn: str, *, row: int = 0, byte: int = 2) -> None:
    """Flip a bit of the numbers of one chunk."""
    file, record = record_of(directory, fqn, "data/0", row)
    flip_bit(directory / file, record.data_offset + byte)


def flip_pickle(directory: Path, fqn: str, *, row: int = 0, byte: int = -5) -> None:
    """Flip a bit of the pickle that describes a chunk, or is a bytes entry."""
    file, record = record_of(directory, fqn, "data.pkl", row)
    flip_bit(directory / file, record.data_offset + byte % record.size, 0x01)


def record_of(directory: Path, fqn: str, name: str, row: int = 0) -> tuple[str, ZipRecord]:
    """Where a record of an entry's item lies: shard file and record."""
    with open_checkpoint(directory) as checkpoint:
        item = _item(checkpoint, directory, fqn, row)
        return item.file, item.record(name)


def _item(checkpoint: Checkpoint, directory: Path, fqn: str, row: int) -> TorchItem:
    entry = checkpoint[fqn]
    part = entry.chunks[row] if isinstance(entry, TensorEntry) else entry
    file = checkpoint.files[part.file].name
    return open_item(LocalStorage(directory), file, part.offset, part.length, subject=fqn)
