"""`.metadata`: from entries and chunk tables to the pickle that torch's DCP reads.

The inverse of `formats.metadata`. Chunks and storage items stand in it by the million, so they are
made as columns: the opcodes of a record with one slot for each number, repeated by NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dcpctl.errors import Refused, quote
from dcpctl.formats.metadata_forms import MetadataForm, metadata_form
from dcpctl.formats.pickles.columns import number_columns, repeated
from dcpctl.formats.pickles.emit import BATCH, Emitter, integer, packed_tuple
from dcpctl.formats.pickles.standins import Record
from dcpctl.formats.records import ChunkTable, StoredBytes, StoredCheckpoint, StoredTensor
from dcpctl.formats.storage_emit import emit_storage

_PROTOCOL = 4
#: Tensors with fewer chunks are written one by one; a NumPy table costs as much as some 30 rows.
_FEW = 32


def emit_metadata(stored: StoredCheckpoint, *, form: str | None = None) -> bytes:
    """Write the `.metadata` that describes a checkpoint.

    The bytes depend on nothing but the arguments. Storage items are written by file and position.

    Args:
        stored: entries with their chunks, files, object paths and further fields (`version`,
            `storage_meta`, what frameworks add). Its items must be torch.save archives.
        form: torch release whose class names and fields are written; None for those that every
            release from 2.4 to 2.15 reads.

    Returns:
        The whole file; `formats.metadata.parse_metadata` gives `stored` back, without `strides`
        where the form has none.

    Raises:
        UnknownForm: as `metadata_form`.
        Refused: an item is not in torch's encoding, or transformed and the release knows no
            transforms; or a field holds what cannot be pickled.
    """
    return _MetadataEmitter(stored, metadata_form(form)).run()


class _MetadataEmitter:
    def __init__(self, stored: StoredCheckpoint, form: MetadataForm) -> None:
        self.stored = stored
        self.form = form
        self.out = Emitter(_PROTOCOL)
        self._properties: dict[tuple[Any, ...], bytes] = {}

    def run(self) -> bytes:
        out = self.out
        out.write(out.named(self._class("Metadata")) + b")\x81}(")
        out.write(out.text("state_dict_metadata"))
        self._described()
        out.write(out.text("planner_data"))
        self._planner_data()
        out.write(out.text("storage_data"))
        out.write(b"}")
        emit_storage(out, self.stored, self.form)
        for name, value in self.stored.fields.items():
            if name in ("storage_meta", "version") and not self.form.storage_meta:
                continue
            out.save(name)
            out.save(self._field(value))
        out.write(b"ub")
        return out.finish()

    def _class(self, name: str) -> str:
        return f"{self.form.metadata}.{name}"

    def _field(self, value: Any) -> Any:
        """Name the class of `storage_meta` as the form does."""
        if isinstance(value, Record) and value.name == "StorageMeta":
            return Record(self._class(value.name), value.fields, value.args)
        return value

    # -- state_dict_metadata ----------------------------------------------------------------------

    def _described(self) -> None:
        out = self.out
        out.write(b"}")
        for batch in _batches(list(self.stored.entries.items())):
            out.write(b"(")
            for fqn, entry in batch:
                self._check(entry)
                out.write(out.text(fqn))
                if isinstance(entry, StoredTensor):
                    self._tensor(entry)
                else:
                    out.write(out.named(self._class("BytesStorageMetadata")) + b")\x81")
            out.write(b"u")

    def _check(self, entry: StoredTensor | StoredBytes) -> None:
        if entry.encoding != "torch":
            raise Refused(
                f"{quote(entry.fqn)} is stored as {entry.encoding}, which no .metadata can describe"
            )
        if entry.transforms and not self.form.transforms:
            raise Refused(
                f"{quote(entry.fqn)} is stored as {quote(entry.transforms[-1])}, "
                "which torch reads from 2.7 on"
            )

    def _tensor(self, entry: StoredTensor) -> None:
        out = self.out
        out.write(out.named(self._class("TensorStorageMetadata")) + b")\x81}(")
        out.write(out.text("properties"))
        out.write(self._properties_of(entry))
        out.write(out.text("size") + self._size(entry.shape))
        out.write(out.text("chunks"))
        self._chunks(entry.chunks)
        out.write(b"ub")

    def _properties_of(self, entry: StoredTensor) -> bytes:
        strides = entry.strides if self.form.fields > 5 else None
        key = (
            entry.dtype,
            entry.layout,
            entry.requires_grad,
            entry.memory_format,
            entry.pin_memory,
            strides,
        )
        known = self._properties.get(key)
        if known is not None:
            return known
        made = self._new_properties(entry, strides)
        # The second mention only refers to names that the first one has defined.
        self._properties[key] = self._new_properties(entry, strides)
        return made

    def _new_properties(self, entry: StoredTensor, strides: tuple[int, ...] | None) -> bytes:
        out = self.out
        parts = [
            out.named(self.form.properties) + b")\x81(",
            out.named(f"torch.{entry.dtype}"),
            out.named("torch.serialization._get_layout"),
            out.text(f"torch.{entry.layout}") + b"\x85R",
            _boolean(entry.requires_grad),
            out.named(self.form.memory_format) + integer(entry.memory_format) + b"\x85R",
            _boolean(entry.pin_memory),
        ]
        if self.form.fields > 5:
            parts.append(b"N" if strides is None else _numbers(strides))
        return b"".join((*parts, b"tb"))

    def _size(self, shape: tuple[int, ...]) -> bytes:
        return self.out.named("torch.Size") + _numbers(shape) + b"\x85R"

    def _chunks(self, chunks: ChunkTable) -> None:
        out = self.out
        out.write(b"]")
        rows = zip(chunks.offsets.tolist(), chunks.sizes.tolist(), strict=True)
        if len(chunks) == 1:
            out.write(self._chunk(*next(rows)) + b"a")
        elif len(chunks) < _FEW:
            if len(chunks):
                out.write(b"(" + b"".join([self._chunk(*row) for row in rows]) + b"e")
        else:
            # The first one defines the names that the others refer to.
            first = self._chunk(chunks.offsets[0].tolist(), chunks.sizes[0].tolist())
            get = self._chunk_parts()
            for start in range(0, len(chunks), BATCH):
                rows_of = slice(max(start, 1), start + BATCH)
                out.write(b"(" + (first if start == 0 else b""))
                offsets, sizes = chunks.offsets[rows_of], chunks.sizes[rows_of]
                parts = [get[0], *number_columns(offsets), get[1], *number_columns(sizes), get[2]]
                out.write(repeated(len(offsets), parts).tobytes() + b"e")

    def _chunk(self, offsets: list[int], sizes: list[int]) -> bytes:
        out = self.out
        return b"".join(
            (
                out.named(self._class("ChunkStorageMetadata")) + b")\x81}(",
                out.text("offsets") + self._size(tuple(offsets)),
                out.text("sizes") + self._size(tuple(sizes)),
                b"ub",
            )
        )

    def _chunk_parts(self) -> tuple[bytes, bytes, bytes]:
        out = self.out
        size = out.named("torch.Size")
        begin = out.named(self._class("ChunkStorageMetadata")) + b")\x81}("
        return (
            begin + out.text("offsets") + size,
            b"\x85R" + out.text("sizes") + size,
            b"\x85Rub",
        )

    # -- planner_data -----------------------------------------------------------------------------

    def _planner_data(self) -> None:
        out = self.out
        paths = self.stored.planner_data
        if paths is None or not self.form.planner_data:
            out.write(b"N")
            return
        out.write(b"}")
        for batch in _batches(list(paths.items())):
            out.write(b"(")
            for fqn, path in batch:
                out.save(fqn)
                out.write(self._path(path))
            out.write(b"u")

    def _path(self, path: tuple[Any, ...]) -> bytes:
        out = self.out
        parts = []
        for part in path:
            if type(part) is str:
                parts.append(out.text(part))
            elif type(part) is int:
                parts.append(integer(part))
            else:
                raise Refused(f"an object path holds a {type(part).__name__}")
        return packed_tuple(parts)


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(items), BATCH):
        yield items[first : first + BATCH]


def _boolean(value: bool) -> bytes:
    return b"\x88" if value else b"\x89"


def _numbers(values: tuple[int, ...]) -> bytes:
    return packed_tuple([integer(value) for value in values])
