"""What an output file is made of: items as they stand, tensors put together, new bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dcpctl.model.entry import TensorEntry
from dcpctl.model.source import TensorSource


@dataclass(frozen=True, slots=True)
class CopyItem:
    """A storage item that is copied as it stands.

    Attributes:
        at: its first byte in the output file.
        length: its bytes.
        source: number of the source's file in `Sources.files`.
        offset: its first byte there.
        encoding: `torch` if it is an archive with checksums; else it has none.
        transforms: the item's stream transforms.
        subject: its FQN.
    """

    at: int
    length: int
    source: int
    offset: int
    encoding: str
    transforms: tuple[str, ...]
    subject: str


@dataclass(frozen=True, slots=True)
class NewTensor:
    """A tensor item that is written anew: a box of what a source gives.

    Attributes:
        at: its first byte in the output file.
        length: its bytes, those of the archive around the numbers included.
        source: where the numbers come from.
        dtype: dtype of the result.
        starts: first element of the box per dimension.
        sizes: elements of the box per dimension.
        subject: its FQN in the result.
        bare: the numbers alone, without an archive around them.
    """

    at: int
    length: int
    source: TensorSource
    dtype: str
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    subject: str
    bare: bool = False

    @property
    def entries(self) -> tuple[TensorEntry, ...]:
        """The entries that are read for it, each once."""
        entry = self.source.entry
        if entry is not None:
            return (entry,)
        stops = tuple(a + n for a, n in zip(self.starts, self.sizes, strict=True))
        found = (entry for entry, _, _ in self.source.boxes(self.starts, stops))
        return tuple({id(entry): entry for entry in found}.values())


@dataclass(frozen=True, slots=True)
class NewBytes:
    """Bytes that are known already: the item of a bytes entry with a new value.

    Attributes:
        at: their first byte in the output file.
        data: the bytes.
        subject: FQN.
    """

    at: int
    data: bytes
    subject: str

    @property
    def length(self) -> int:
        """Number of bytes."""
        return len(self.data)


Segment = CopyItem | NewTensor | NewBytes


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One shard file of the result, or a file beside them.

    Attributes:
        name: its path in the destination, with slashes.
        size: bytes.
        link: the source's file that it is a whole copy of; None if it is written item by item.
        source: number of that file in `Sources.files`; -1 if there is none.
        segments: what it is made of, by position. Of a file with `link`: the items in it, each
            where it stands.
        mode: permission bits that it is given; None leaves that to the process.
    """

    name: str
    size: int
    link: Path | None
    source: int
    segments: Sequence[Segment]
    mode: int | None = None
