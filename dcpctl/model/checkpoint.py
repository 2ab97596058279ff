"""A checkpoint as a value: an ordered map from FQN to entry, and the files that hold the bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np

from dcpctl.errors import MissingFile, NothingSelected, PathOutsideCheckpoint, printable, quote
from dcpctl.formats.form import Form
from dcpctl.formats.pickles.standins import PackedTensor
from dcpctl.formats.records import ChunkTable, Orphan, StoredBytes, StoredCheckpoint, StoredTensor
from dcpctl.formats.value_read import ValueReader
from dcpctl.model.entry import BytesEntry, Place, Source, TensorEntry
from dcpctl.model.packed import survey_packed
from dcpctl.model.shard_file import ShardFile, rank_and_number
from dcpctl.storage.local import LocalStorage

Entry = TensorEntry | BytesEntry
#: Keys among which near ones are looked for, and letters of a name that are compared.
_MOST_COMPARED, _LONGEST_COMPARED = 5_000, 300
#: Keys that a notebook shows.
_MOST_ROWS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One directory of a checkpoint; most checkpoints have one.

    Attributes:
        name: the sub-directory, or empty where the checkpoint is the directory itself.
        storage: the directory's files.
        stored: what its metadata says.
        first_file: index of its first shard file in `Checkpoint.files`.
    """

    name: str
    storage: LocalStorage
    stored: StoredCheckpoint
    first_file: int

    def located(self, file: str) -> str:
        """A file name of this part, relative to the checkpoint."""
        return f"{self.name}/{file}" if self.name else file

    def places(self) -> list[Place]:
        """Where each of its shard files is read."""
        values = ValueReader(self.storage)
        return [Place(self.storage, name, values) for name in self.stored.files]


class Checkpoint(Mapping[str, Entry]):
    """An opened checkpoint. Immutable; a context manager that closes the files it holds open.

    Args:
        path: the directory that was asked for.
        parts: name, storage and description of each directory that belongs to it.
        entries: entries whose chunks lie in files of several parts, by their numbers in `files`;
            None takes the entries of the parts.

    Attributes:
        path: the directory that was asked for.
        parts: its directories.
        files: the shard files of all parts, in the order of the chunk tables' file numbers.
        entries: FQN -> entry, in metadata order. An FQN that two parts have is `part/fqn`.
        homes: FQN -> the part that has it and its FQN there; empty where parts share entries.
    """

    def __init__(
        self,
        path: Path,
        parts: Sequence[tuple[str, LocalStorage, StoredCheckpoint]],
        entries: Mapping[str, StoredTensor | StoredBytes] | None = None,
    ) -> None:
        self.path = path
        made: list[Part] = []
        files: list[ShardFile] = []
        for name, storage, stored in parts:
            part = Part(name, storage, stored, len(files))
            files.extend(_shard_files(part))
            made.append(part)
        self.parts: tuple[Part, ...] = tuple(made)
        self.files: tuple[ShardFile, ...] = tuple(files)
        source = Source(self.files, [place for part in made for place in part.places()])
        found: dict[str, Entry] = {}
        homes: dict[str, tuple[str, str]] = {}
        if entries is not None:
            found = {fqn: _entry(fqn, entry, 0, source) for fqn, entry in entries.items()}
        for part in made if entries is None else ():
            for fqn, entry in part.stored.entries.items():
                key = f"{part.name}/{fqn}" if fqn in found else fqn
                found[key] = _entry(key, entry, part.first_file, source)
                homes[key] = (part.name, fqn)
        self.homes: Mapping[str, tuple[str, str]] = MappingProxyType(homes)
        self.entries: Mapping[str, Entry] = MappingProxyType(found)

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, {len(self.entries)} entries)"

    def _repr_html_(self) -> str:
        """A table for a notebook: the first keys, and how many more there are."""
        from html import escape

        rows = [
            f"<tr><td>{escape(printable(fqn[:_LONGEST_COMPARED]))}</td>"
            f"<td>{escape(entry.dtype if isinstance(entry, TensorEntry) else 'object')}</td>"
            f"<td>{[*entry.shape] if isinstance(entry, TensorEntry) else ''}</td></tr>"
            for fqn, entry in islice(self.entries.items(), _MOST_ROWS)
        ]
        head = f"{escape(printable(self.path))}: {len(self.entries):,} keys"
        more = len(self.entries) - len(rows)
        foot = f"<p>and {more:,} more</p>" if more > 0 else ""
        names = "<tr><th>key</th><th>dtype</th><th>shape</th></tr>"
        return f"<p>{head}</p><table>{names}{''.join(rows)}</table>{foot}"

    def __getitem__(self, fqn: str) -> Entry:
        try:
            return self.entries[fqn]
        except KeyError:
            raise UnknownKey(fqn, self) from None

    def get(self, fqn: str, default: Any = None) -> Any:
        """The entry of a key, or `default`; near names are not looked for."""
        return self.entries.get(fqn, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, fqn: object) -> bool:
        return fqn in self.entries

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every file; a later read raises ValueError."""
        for part in self.parts:
            part.storage.close()

    @property
    def directory(self) -> Path:
        """The directory that file names are relative to.

        That is `path`, or the one around it where parts lie side by side (`7.net_model/`,
        `7.net_optim/`) and `path` is what their names have in common.
        """
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def format(self) -> str:
        """The on-disk form by its name; parts of different forms give theirs joined by `+`."""
        return "+".join(form.name for form in self.forms)

    @property
    def forms(self) -> tuple[Form, ...]:
        """The on-disk forms of its parts, each once."""
        return tuple(dict.fromkeys(part.stored.form for part in self.parts))

    @cached_property
    def tensors(self) -> dict[str, TensorEntry]:
        """The tensor entries, in metadata order."""
        return {fqn: e for fqn, e in self.entries.items() if isinstance(e, TensorEntry)}

    @cached_property
    def bytes_entries(self) -> dict[str, BytesEntry]:
        """The bytes entries, in metadata order."""
        return {fqn: e for fqn, e in self.entries.items() if isinstance(e, BytesEntry)}

    @cached_property
    def packed(self) -> dict[str, PackedTensor]:
        """FQN to what it holds, of the tensors of a subclass and packed ones; opens some items."""
        return survey_packed(self.tensors.values())

    @cached_property
    def planner_data(self) -> dict[str, tuple[Any, ...]] | None:
        """FQN -> object path over all parts; None if no part has one."""
        names = {home: fqn for fqn, home in self.homes.items()}
        found: dict[str, tuple[Any, ...]] | None = None
        for part in self.parts:
            if part.stored.planner_data is not None:
                found = {} if found is None else found
                for fqn, path in part.stored.planner_data.items():
                    key = names.get((part.name, fqn), fqn)
                    if key != fqn and path:  # the part's name begins the key and the path alike
                        path = (f"{part.name}/{path[0]}", *path[1:])
                    found.setdefault(key, path)
        return found

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """Ranks that wrote a shard file, as the file names say, ascending."""
        return tuple(sorted({file.rank for file in self.files if file.rank is not None}))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors' numbers; replicated tensors count once."""
        return sum(entry.nbytes for entry in self.tensors.values())


class UnknownKey(NothingSelected, KeyError):
    """`checkpoint[fqn]` for an FQN that it does not have."""

    id = "unknown-key"

    def __init__(self, fqn: str, checkpoint: Checkpoint) -> None:
        near = _near(str(fqn), [*checkpoint.entries])
        hint = f"there is {', '.join(map(quote, near))}" if near else None
        super().__init__(f"{quote(checkpoint.path)} has no key {quote(fqn)}", hint=hint)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.message, self.hint)


def _again(message: str, hint: str | None) -> UnknownKey:
    """An error as another process raised it, without its checkpoint."""
    error = UnknownKey.__new__(UnknownKey, message)
    error.args, error.hint = (message,), hint
    return error


def _near(fqn: str, known: list[str]) -> list[str]:
    """The keys most like one that is not there, at most three."""
    from difflib import get_close_matches

    last = fqn.rpartition(".")[2]
    ends = [key for key in known if key.rpartition(".")[2] == last]
    # difflib takes a moment for each thousand names, and a checkpoint may have a million.
    few = known if len(known) <= _MOST_COMPARED else ends[:_MOST_COMPARED]
    inside = [key for key in known if key.endswith(f".{fqn}")] if fqn else []
    return inside[:3] or get_close_matches(fqn[:_LONGEST_COMPARED], few, 3, 0.6)


def _entry(fqn: str, stored: StoredTensor | StoredBytes, base: int, source: Source) -> Entry:
    if isinstance(stored, StoredBytes):
        return BytesEntry(fqn, stored, stored.file + base if stored.file >= 0 else -1, source)
    chunks = stored.chunks
    if base:
        file = np.where(chunks.file >= 0, chunks.file + base, -1).astype(np.int32)
        chunks = ChunkTable(chunks.offsets, chunks.sizes, file, chunks.offset, chunks.length)
    return TensorEntry(fqn, stored, chunks, source)


def _shard_files(part: Part) -> list[ShardFile]:
    """The part's shard files, with the bytes and items that its metadata places in each."""
    stored = part.stored
    count = len(stored.files)
    ends = np.zeros(count, dtype=np.int64)
    items = np.zeros(count, dtype=np.int64)
    loose: list[StoredBytes | Orphan] = [*stored.orphans, *stored.replicas]
    for entry in stored.entries.values():
        if isinstance(entry, StoredBytes):
            loose.append(entry)
            continue
        chunks = entry.chunks
        held = chunks.file >= 0
        np.maximum.at(ends, chunks.file[held], chunks.offset[held] + chunks.length[held])
        items += np.bincount(chunks.file[held], minlength=count)
    for item in loose:
        if item.file >= 0:
            ends[item.file] = max(int(ends[item.file]), _clip(item.offset + item.length))
            items[item.file] += 1
    return [
        ShardFile(
            part.located(name),
            *rank_and_number(name),
            described_bytes=int(ends[number]),
            size=_size(part.storage, name),
            items=int(items[number]),
        )
        for number, name in enumerate(stored.files)
    ]


def _clip(number: int) -> int:
    return min(max(number, 0), (1 << 63) - 1)


def _size(storage: LocalStorage, name: str) -> int | None:
    try:
        return storage.size(name)
    except (MissingFile, PathOutsideCheckpoint):
        return None
