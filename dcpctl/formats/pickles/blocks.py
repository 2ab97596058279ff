"""Decode the long runs of equal records in a large `.metadata` as NumPy columns.

A checkpoint of 1,000 tensors on 1,024 ranks pickles a million `ChunkStorageMetadata` and a million
pairs of `MetadataIndex` and `_StorageInfo`. Written by one pickler, they differ in little:
integers, a name that is spelled out or taken from the memo, a shape of one dimension or two. So
the machine decodes one record in the ordinary way, its opcodes become a `Template` (see
`templates`), and all records that follow are decoded against the known templates at once, a window
at a time.

Nothing is assumed about where records lie: candidates are found by their first bytes, each is
decoded opcode for opcode, and only an unbroken chain from the machine's own position, where the
end of each record is the start of the next, is taken. Whatever does not match is left to the
machine.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dcpctl.errors import MalformedPickle
from dcpctl.formats.arrays import distinct
from dcpctl.formats.pickles.learning import learn, operand_length
from dcpctl.formats.pickles.standins import Record, Size
from dcpctl.formats.pickles.templates import Decoded, Template, equal_texts

if TYPE_CHECKING:
    from dcpctl.formats.pickles.vm import Machine

Ints = NDArray[np.int64]

_FIRST_WINDOW = 16 << 10
_LAST_WINDOW = 4 << 20
_LONGEST_RECORD = 4 << 10
_SHORT_RUN = 1 << 10
_MAX_TEMPLATES = 24
#: C's pickler closes a batch of list or dict items after each thousand and opens the next.
_BATCH_BREAK = {"chunk": b"e(", "storage": b"u("}


@dataclass(frozen=True, slots=True, eq=False)
class ChunkBlock:
    """A run of `ChunkStorageMetadata` of one tensor.

    Attributes:
        offsets: (n, d) first element of each chunk.
        sizes: (n, d) elements of each chunk.
    """

    offsets: Ints
    sizes: Ints


@dataclass(frozen=True, slots=True, eq=False)
class StorageBlock:
    """A run of `MetadataIndex` -> `_StorageInfo` items.

    Attributes:
        names: the FQNs and paths that the ids below refer to.
        fqn: (n,) index into `names`.
        offsets: (n, d) the chunk's offsets, or None where the index has none (bytes entries).
        path: (n,) index into `names`.
        offset: (n,) byte offset of the storage item in its file.
        length: (n,) bytes of the storage item.
        transforms: the item's stream transforms, the same for all.
    """

    names: list[str]
    fqn: Ints
    offsets: Ints | None
    path: Ints
    offset: Ints
    length: Ints
    transforms: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Segment:
    """Memo entries that a window of records made: which template and row each belongs to."""

    first: int
    end: int
    bases: Ints
    template_of: NDArray[np.int16]
    row_of: Ints
    decoded: list[tuple[Template, Decoded]]


def strip_frames(data: bytes) -> tuple[bytes, list[int]] | None:
    """Take the FRAME opcodes out of a stream (protocol 4), which may cut any record in two.

    Returns:
        The stream without them and where in it each frame ends, which has to be where an opcode
        ends; None for a stream that is not all frames, which is the plain machine's.
    """
    if data[:2] not in (b"\x80\x04", b"\x80\x05"):
        return None
    view = memoryview(data)
    pieces = [view[:2]]
    ends: list[int] = []
    position, stripped = 2, 2
    while position < len(data):
        if data[position] != 0x95:
            return None
        length = int.from_bytes(data[position + 1 : position + 9], "little")
        start = position + 9
        if not 0 < length <= len(data) - start:
            return None
        pieces.append(view[start : start + length])
        position = start + length
        stripped += length
        ends.append(stripped)
    return (b"".join(pieces), ends) if ends else None


class BlockDecoder:
    """Takes over from the machine where a known record ends and another may follow."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        data = machine.data
        self.bytes = np.frombuffer(data, dtype=np.uint8)
        self.starts: dict[str, int | None] = {}
        self.templates: dict[str, list[Template]] = {"chunk": [], "storage": []}
        self._window = {"chunk": _FIRST_WINDOW, "storage": _FIRST_WINDOW}
        self._stopped = {"chunk": -2, "storage": -2}
        self._tries = {"chunk": 0, "storage": 0}
        self._rest = {"chunk": 0, "storage": 0}
        self.segments: list[_Segment] = []
        #: What was put into containers, to be compared with what is found in them.
        self.blocks: list[ChunkBlock | StorageBlock] = []
        self._firsts: list[int] = []
        self._names: dict[str, int] = {}
        self.names: list[str] = []

    def record_begins(self, kind: str, position: int | None) -> None:
        """Note where the record under construction begins (its class, taken from the memo)."""
        self.starts[kind] = position

    def record_ends(self, record: Record) -> None:
        """Learn from the record that just ended, then decode those that follow it."""
        name = record.name
        if name not in ("ChunkStorageMetadata", "_StorageInfo"):
            return
        kind = "chunk" if name == "ChunkStorageMetadata" else "storage"
        start = self.starts.get("chunk" if kind == "chunk" else "index")
        if start is None:
            return
        machine = self.machine
        if not self._among_members(kind) or not self._another_follows(kind, start):
            return
        if self._rest[kind] > 0:
            self._rest[kind] -= 1
            return
        # Where a run broke off, its next record is of a form that is yet to be learned.
        stopped = self._stopped[kind]
        if start not in (stopped, stopped + 2) and self._follow(kind):
            return
        template = learn(machine.data, start, machine.pos, kind, machine.recall)
        if template is None:
            return
        known = self.templates[kind]
        if all(template.signature != other.signature for other in known):
            self.templates[kind] = [template, *known][:_MAX_TEMPLATES]
        self._follow(kind)

    def _among_members(self, kind: str) -> bool:
        """Whether the record stands among what will be added to a list, or its pair to a dict."""
        machine = self.machine
        if not machine.marked or not machine.marked[-1]:
            return False
        wanted = list if kind == "chunk" else dict
        whole = kind == "chunk" or len(machine.stack) % 2 == 0
        return whole and type(machine.marked[-1][-1]) is wanted

    def _another_follows(self, kind: str, start: int) -> bool:
        data, position = self.machine.data, self.machine.pos
        head = data[start : start + (4 if data[start] == 0x68 else 7)]
        if data.startswith(_BATCH_BREAK[kind], position):
            position += 2
        return data.startswith(head, position)

    def memo_value(self, index: int) -> Any:
        """Return one memo entry that a block made; KeyError if none did."""
        number = bisect_right(self._firsts, index) - 1
        if number >= 0:
            segment = self.segments[number]
            if index < segment.end:
                record = int(np.searchsorted(segment.bases, index, "right")) - 1
                _template, decoded = segment.decoded[segment.template_of[record]]
                slot = index - int(segment.bases[record])
                return decoded.memo_value(self.machine.data, slot, int(segment.row_of[record]))
        raise KeyError(index)

    # -- windows ---------------------------------------------------------------------------------

    def _follow(self, kind: str) -> bool:
        """Decode windows up to the end of the run; the first is as long as the last run was.

        Returns:
            False if no known template fits the first record.
        """
        if not self.templates[kind]:
            return False
        start = self.machine.pos
        window = self._window[kind]
        while self._decode_window(kind, window):
            window = min(window * 4, _LAST_WINDOW)
        self._stopped[kind] = self.machine.pos
        run = self.machine.pos - start
        self._window[kind] = min(max(run + _LONGEST_RECORD, _FIRST_WINDOW), _LAST_WINDOW)
        # Runs too short to pay for the attempt: let the machine go on alone for a while.
        self._tries[kind] = 0 if run > _SHORT_RUN else min(self._tries[kind] + 1, 8)
        self._rest[kind] = (1 << self._tries[kind]) - 1 if self._tries[kind] > 2 else 0
        return run > 0

    def _decode_window(self, kind: str, window: int) -> bool:
        """Decode the records between the position and `window` bytes on.

        Returns:
            True if the chain of records reached the end of the window, so that more may follow.
        """
        machine = self.machine
        position = machine.pos
        end = min(position + window, len(self.bytes))
        candidates = self._candidates(kind, position, end)
        if not len(candidates):
            return False
        which, ends, decoded = self._decode(kind, candidates, end)
        count = self._chain(kind, position, candidates, ends, which)
        if count == 0:
            return False
        self._check_frames(candidates[:count], position, int(ends[count - 1]))
        templates = self.templates[kind]
        lengths = np.array([template.memoized for template in templates], dtype=np.int64)
        per_record = lengths[which[:count]]
        bases = machine.memo_length + np.cumsum(per_record) - per_record
        self._emit(kind, which[:count], candidates[:count], bases, decoded)
        machine.memo_length += int(per_record.sum())
        machine.pos = int(ends[count - 1])
        # The window may cut its last record in two; the next window begins with that one.
        reached = count == len(candidates) or int(candidates[count]) + _LONGEST_RECORD > end
        return reached and end < len(self.bytes)

    def _candidates(self, kind: str, position: int, end: int) -> Ints:
        head = self.templates[kind][0].head
        anchor = len(head) - 1
        view = self.bytes[position:end]
        found = np.flatnonzero(view == 0x81) - anchor
        found = found[(found >= 0) & (found <= len(view) - len(head))]
        for index, byte in enumerate(head):
            found = found[view[found + index] == byte]
        return found + position

    def _decode(
        self, kind: str, candidates: Ints, end: int
    ) -> tuple[NDArray[np.int16], Ints, list[tuple[Ints, Decoded] | None]]:
        """Decode every candidate by the first template that fits it.

        Returns:
            (n,) template of each candidate or -1; (n,) position after each; and for each template
            the candidates that it decoded, with what it decoded.
        """
        which = np.full(len(candidates), -1, dtype=np.int16)
        ends = np.zeros(len(candidates), dtype=np.int64)
        decoded: list[tuple[Ints, Decoded] | None] = []
        for number, template in enumerate(self.templates[kind]):
            open_rows = np.flatnonzero(which < 0)
            if not len(open_rows):
                decoded.append(None)
                continue
            fits, result = template.decode(self.bytes, candidates[open_rows], end)
            rows = open_rows[fits]
            which[rows] = number
            ends[rows] = result.ends
            decoded.append((rows, result) if len(rows) else None)
        return which, ends, decoded

    def _chain(
        self, kind: str, position: int, starts: Ints, ends: Ints, which: NDArray[np.int16]
    ) -> int:
        """Count the records in an unbroken chain from `position`."""
        previous = np.concatenate([[position], ends[:-1]])
        gap = starts - previous
        joined = gap == 0
        broken = np.flatnonzero(gap == 2)
        if len(broken):
            first, second = _BATCH_BREAK[kind]
            at = previous[broken]
            joined[broken] = (self.bytes[at] == first) & (self.bytes[at + 1] == second)
        bad = np.flatnonzero(~(joined & (which >= 0)))
        return int(bad[0]) if len(bad) else len(starts)

    def _check_frames(self, starts: Ints, position: int, stop: int) -> None:
        """See that frames which end among these records end where an opcode ends."""
        machine = self.machine
        low = bisect_right(machine.frame_ends, position)
        high = bisect_left(machine.frame_ends, stop)
        inside = machine.frame_ends[low:high]
        if not inside:
            return
        records = np.searchsorted(starts, inside, "right") - 1
        for end, record in zip(inside, records.tolist(), strict=True):
            # Before the first record only the two opcodes between batches can stand.
            at = int(starts[record]) if record >= 0 else end
            while at < end:
                at += operand_length(machine.data, at)
            # The end may also lie between two batches, after the record.
            if at > end:
                machine.fail("an operand runs across the end of a frame")

    # -- results ---------------------------------------------------------------------------------

    def _emit(
        self,
        kind: str,
        which: NDArray[np.int16],
        starts: Ints,
        bases: Ints,
        decoded: list[tuple[Ints, Decoded] | None],
    ) -> None:
        """Put what a window holds on the machine's stack, and its memo entries within reach."""
        count = len(which)
        row_of = np.zeros(count, dtype=np.int64)
        parts: list[tuple[Template, Decoded]] = []
        rows_of: list[Ints] = []
        index_of = np.zeros(len(self.templates[kind]), dtype=np.int16)
        for number, part in enumerate(decoded):
            if part is None:
                continue
            rows, result = part
            keep = rows < count
            rows = rows[keep]
            if not len(rows):
                continue
            index_of[number] = len(parts)
            row_of[rows] = np.arange(len(rows))
            parts.append((self.templates[kind][number], result.select(keep)))
            rows_of.append(rows)
        last = parts[index_of[which[-1]]][0].memoized
        segment = _Segment(
            int(bases[0]), int(bases[-1]) + last, bases, index_of[which], row_of, parts
        )
        self.segments.append(segment)
        self._firsts.append(segment.first)
        if kind == "chunk":
            self._emit_chunks(parts, rows_of, bases)
        else:
            self._emit_storage(parts, rows_of, bases)

    def _emit_chunks(
        self, parts: list[tuple[Template, Decoded]], rows_of: list[Ints], bases: Ints
    ) -> None:
        offsets: list[tuple[Ints, Ints]] = []
        sizes: list[tuple[Ints, Ints]] = []
        for (template, decoded), rows in zip(parts, rows_of, strict=True):
            limit = bases[rows] + template.memoized
            for field, kept in ((template.chunk[0], offsets), (template.chunk[1], sizes)):
                for local, numbers in self._dims(decoded, field, limit):
                    kept.append((rows[local], numbers))
        block = ChunkBlock(_in_order(offsets), _in_order(sizes))
        self.blocks.append(block)
        self.machine.seal(block)

    def _emit_storage(
        self, parts: list[tuple[Template, Decoded]], rows_of: list[Ints], bases: Ints
    ) -> None:
        for (template, decoded), rows in zip(parts, rows_of, strict=True):
            item = template.storage
            limit = bases[rows] + template.memoized
            fqn = self._strings(decoded, item.fqn, limit)
            path = self._strings(decoded, item.path, limit)
            offset = decoded.ints(item.offset)
            length = decoded.ints(item.length)
            transforms = tuple(
                self.names[int(n)]
                for part in item.transforms
                for n in self._same(self._strings(decoded, part, limit))
            )
            groups: list[tuple[Any, Ints | None]] = (
                [(slice(None), None)]
                if item.index_offset is None
                else list(self._dims(decoded, item.index_offset, limit))
            )
            for local, offsets in groups:
                block = StorageBlock(
                    self.names,
                    fqn[local],
                    offsets,
                    path[local],
                    offset[local],
                    length[local],
                    transforms,
                )
                # A dict item is two values on the stack.
                self.blocks.append(block)
                self.machine.seal(_BlockKey(block), block)

    def _same(self, ids: Ints) -> list[int]:
        if len(ids) and (ids != ids[0]).any():
            raise MalformedPickle(
                f"{self.machine.subject}: storage items of one form have other transforms"
            )
        return [int(ids[0])] if len(ids) else []

    def _dims(self, decoded: Decoded, field: Any, limit: Ints) -> list[tuple[Ints, Ints]]:
        """The integers of one shape-like field: (rows, (rows, d)) for each number of dims."""
        if isinstance(field, tuple):
            columns = [decoded.ints(part) for part in field]
            count = decoded.count
            table = np.stack(columns, axis=1) if columns else np.zeros((count, 0), np.int64)
            return [(np.arange(count), table)]
        index = decoded.ints(field)
        self._check_memo(index, limit)
        return self._recalled_dims(index)

    def _recalled_dims(self, index: Ints) -> list[tuple[Ints, Ints]]:
        """Look shapes up in the memo, a segment and slot at a time."""
        groups: dict[int, list[tuple[Ints, Ints]]] = {}
        rest = np.ones(len(index), dtype=bool)
        low, high = (int(index.min()), int(index.max())) if len(index) else (0, -1)
        for segment in reversed(self.segments):
            if segment.end <= low or segment.first > high:
                continue
            rows = np.flatnonzero(rest & (index >= segment.first) & (index < segment.end))
            if not len(rows):
                continue
            rest[rows] = False
            record = np.searchsorted(segment.bases, index[rows], "right") - 1
            slot = index[rows] - segment.bases[record]
            kind = segment.template_of[record].astype(np.int64) << 32 | slot
            for value in distinct(kind).tolist():
                chosen = np.flatnonzero(kind == value)
                _template, decoded = segment.decoded[value >> 32]
                table = decoded.memo_dims(value & 0xFFFFFFFF, segment.row_of[record[chosen]])
                if table is None:
                    self._no_shape()
                else:
                    groups.setdefault(table.shape[1], []).append((rows[chosen], table))
        for row in np.flatnonzero(rest).tolist():
            shape = self.machine.recall(int(index[row]))
            if not isinstance(shape, Size):
                self._no_shape()
            table = np.array([shape], dtype=np.int64).reshape(1, len(shape))
            groups.setdefault(len(shape), []).append((np.array([row]), table))
        return [
            (np.concatenate([rows for rows, _ in found]), np.concatenate([t for _, t in found]))
            for found in groups.values()
        ]

    def _no_shape(self) -> None:
        raise MalformedPickle(
            f"{self.machine.subject}: a chunk whose offsets or sizes are no shape"
        )

    def _check_memo(self, index: Ints, limit: Ints) -> None:
        if (index >= limit).any():
            raise MalformedPickle(f"{self.machine.subject}: a record refers to a later memo entry")

    def _strings(self, decoded: Decoded, field: int, limit: Ints) -> Ints:
        """Ids into `names` of a field that is spelled out or recalled from the memo."""
        if decoded.is_text(field):
            return self._texts(*decoded.text_span(field))
        index = decoded.ints(field)
        self._check_memo(index, limit)
        unique, inverse = np.unique(index, return_inverse=True)
        ids = []
        for value in unique.tolist():
            text = self.machine.recall(value)
            if type(text) is not str:  # a layout is told by a string too
                raise MalformedPickle(
                    f"{self.machine.subject}: a name in the storage data is no string"
                )
            ids.append(self._intern(text))
        return np.array(ids, dtype=np.int64)[inverse]

    def _texts(self, starts: Ints, stops: Ints) -> Ints:
        """Ids of the texts between positions; each different one is made a string once."""
        ids = np.empty(len(starts), dtype=np.int64)
        lengths = stops - starts
        for length in distinct(lengths).tolist():
            rows = np.flatnonzero(lengths == length)
            for same, first in equal_texts(self.bytes, starts[rows], length):
                text = self.machine.data[first : first + length]
                ids[rows[same]] = self._intern(text.decode("utf-8", "surrogatepass"))
        return ids

    def _intern(self, text: str) -> int:
        known = self._names.get(text)
        if known is None:
            known = self._names[text] = len(self.names)
            self.names.append(text)
        return known


class _BlockKey(Record):
    """The dict key under which a storage block stands."""

    def __init__(self, block: StorageBlock) -> None:
        super().__init__("dcpctl.StorageBlock", {"block": block}, built=True)


def _in_order(parts: list[tuple[Ints, Ints]]) -> Ints:
    """Merge (rows, table) parts into one table in row order; all must have one width."""
    if len({table.shape[1] for _, table in parts}) != 1:
        raise MalformedPickle("chunks of one tensor have different numbers of dimensions")
    if len(parts) == 1:
        return parts[0][1]
    rows = np.concatenate([part for part, _ in parts])
    table = np.concatenate([part for _, part in parts])
    return table[np.argsort(rows, kind="stable")]
