"""The opcode pattern of one pickled record, and its use on many records at once.

`learning.learn` makes a template of a record that the machine has just decoded. It says which
opcodes are the same in every such record, which carry an integer, a text or a memo index, and what
each of those means. `Template.decode` then steps through thousands of candidates together, one
NumPy operation an opcode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpctl.formats.pickles.standins import Size

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

_MIX = np.uint64(0x9E3779B97F4A7C15)
#: Bytes that a vectorised read may touch after a position.
_SLACK = 16


@dataclass(slots=True)
class Token:
    """One opcode of the pattern: `kind` is fixed, int, get or text."""

    kind: str
    raw: bytes
    value: Any = None


class SizeSymbol(tuple[Any, ...]):
    """The arguments of a `torch.Size` under construction."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that is the same in every record."""

    value: Any


@dataclass(frozen=True, slots=True)
class StorageFields:
    """Token numbers of a storage item: ints and names; a shape is a tuple of them."""

    fqn: int
    index_offset: Any
    path: int
    offset: int
    length: int
    transforms: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What one template read from many records.

    Attributes:
        count: number of records.
        ends: (count,) position after each record.
        cells: token number -> (count,) integers, or the (start, stop) positions of a text.
        memo: what each memo entry of a record holds, as symbols.
    """

    count: int
    ends: Ints
    cells: dict[int, Any]
    memo: list[Any]

    def ints(self, token: int) -> Ints:
        """(count,) integers of an int or get token."""
        numbers: Ints = self.cells[token]
        return numbers

    def is_text(self, token: int) -> bool:
        """True if the token is a text that is spelled out."""
        return isinstance(self.cells[token], tuple)

    def text_span(self, token: int) -> tuple[Ints, Ints]:
        """(count,) first and past-the-end positions of a text token."""
        start, stop = self.cells[token]
        return start, stop

    def select(self, keep: NDArray[np.bool_]) -> Decoded:
        """The records where `keep` is true."""
        if keep.all():
            return self
        cells = {
            token: tuple(part[keep] for part in cell) if isinstance(cell, tuple) else cell[keep]
            for token, cell in self.cells.items()
        }
        return Decoded(int(keep.sum()), self.ends[keep], cells, self.memo)

    def memo_value(self, data: bytes, slot: int, row: int) -> Any:
        """Memo entry `slot` of record `row`, as the machine would have stored it."""
        return self._value(data, self.memo[slot], row)

    def _value(self, data: bytes, symbol: Any, row: int) -> Any:
        if isinstance(symbol, SizeSymbol):
            return Size(self._value(data, part, row) for part in symbol)
        if isinstance(symbol, tuple):
            return tuple(self._value(data, part, row) for part in symbol)
        if type(symbol) is int:
            cell = self.cells[symbol]
            if isinstance(cell, tuple):
                return data[cell[0][row] : cell[1][row]].decode("utf-8", "surrogatepass")
            return int(cell[row])
        if isinstance(symbol, Constant):
            return symbol.value
        raise KeyError(f"of a record ({type(symbol).__name__})")

    def memo_dims(self, slot: int, rows: Ints) -> Ints | None:
        """(len(rows), d) integers of memo entry `slot`; None if it is no `torch.Size`."""
        symbol = self.memo[slot]
        if not isinstance(symbol, SizeSymbol):
            return None
        if not symbol:
            return np.zeros((len(rows), 0), dtype=np.int64)
        return np.stack([self.cells[token][rows] for token in symbol], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """The pattern of one form of record.

    Attributes:
        tokens: opcodes in order; neighbouring fixed ones are merged.
        head: the bytes up to NEWOBJ, by which candidates are found.
        memo: what each memo entry that the record makes holds, as symbols.
        chunk: the `offsets` and `sizes` symbols of a chunk record.
        storage: the tokens of a storage item.
        signature: equal for two templates that decode the same records.
    """

    tokens: tuple[Token, ...]
    head: bytes
    memo: list[Any]
    chunk: tuple[Any, Any]
    storage: StorageFields
    signature: tuple[tuple[str, bytes], ...]

    @property
    def memoized(self) -> int:
        """Memo entries that one record makes."""
        return len(self.memo)

    def decode(self, data: Bytes, starts: Ints, end: int) -> tuple[NDArray[np.bool_], Decoded]:
        """Decode the records that begin at `starts`.

        Args:
            data: the whole stream.
            starts: (n,) candidate positions.
            end: a record must end before this position.

        Returns:
            (n,) which candidates fit the pattern, and what those hold.
        """
        # Texts apart, a record that begins at or before this position lies inside the stream.
        last = len(data) - sum(_SLACK + len(token.raw) for token in self.tokens)
        if last < 0:
            return np.zeros(len(starts), dtype=bool), Decoded(0, starts[:0], {}, self.memo)
        at = np.minimum(starts, last)
        fits = np.ones(len(starts), dtype=bool)
        cells: dict[int, Any] = {}
        # Eight bytes from any position in one read, aligned or not.
        words = np.ndarray((len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))
        for number, token in enumerate(self.tokens):
            if token.kind == "fixed":
                _match(words, at, token.raw, fits)
                if not fits.any():
                    break
                at = at + len(token.raw)
                continue
            code = data[at]
            operand = words[at + 1]
            if token.kind == "int":
                cells[number], length = _integers(code, operand, words, at, fits)
            elif token.kind == "get":
                cells[number], length = _memo_indices(code, operand, fits)
            else:
                cells[number], length = _texts(code, operand, at, fits)
                fits &= at + length <= last
                length = np.minimum(length, last - at)
            at = at + length
        fits &= at <= end
        keep = {n: _select(cell, fits) for n, cell in cells.items()}
        return fits, Decoded(int(fits.sum()), at[fits], keep, self.memo)


def _select(cell: Any, fits: NDArray[np.bool_]) -> Any:
    return tuple(part[fits] for part in cell) if isinstance(cell, tuple) else cell[fits]


def _match(words: Any, at: Ints, raw: bytes, fits: NDArray[np.bool_]) -> None:
    for start in range(0, len(raw), 8):
        piece = raw[start : start + 8]
        wanted = np.uint64(int.from_bytes(piece, "little"))
        found = words[at + start]
        if len(piece) < 8:
            found = found & np.uint64((1 << 8 * len(piece)) - 1)
        fits &= found == wanted


def _integers(
    code: Bytes, operand: Any, words: Any, at: Ints, fits: NDArray[np.bool_]
) -> tuple[Ints, Ints]:
    """Values and opcode lengths of BININT1, BININT2, BININT and LONG1 of up to 8 bytes."""
    value = (operand & np.uint64(0xFF)).astype(np.int64)
    length = np.full(len(code), 2, dtype=np.int64)
    simple = code == 0x4B
    if simple.all():
        return value, length
    two = code == 0x4D
    value[two] = (operand[two] & np.uint64(0xFFFF)).astype(np.int64)
    length[two] = 3
    four = code == 0x4A
    value[four] = (operand[four] & np.uint64(0xFFFFFFFF)).astype(np.uint32).astype(np.int32)
    length[four] = 5
    long = code == 0x8A
    if long.any():
        size = (operand[long] & np.uint64(0xFF)).astype(np.int64)
        raw = words[at[long] + 2]
        shift = (8 * (8 - np.clip(size, 1, 8))).astype(np.uint64)
        # Shifting up and down again extends the sign of a number of fewer than eight bytes.
        value[long] = (raw << shift).astype(np.int64) >> shift.astype(np.int64)
        length[long] = 2 + np.minimum(size, 8)
        fits[np.flatnonzero(long)[(size < 1) | (size > 8)]] = False
    fits &= simple | two | four | long
    return value, length


def _memo_indices(code: Bytes, operand: Any, fits: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Values and opcode lengths of BINGET and LONG_BINGET."""
    short = code == 0x68
    long = code == 0x6A
    value = (operand & np.uint64(0xFFFFFFFF)).astype(np.int64)
    value[short] &= 0xFF
    fits &= short | long
    return value, np.where(short, 2, 5).astype(np.int64)


def _texts(
    code: Bytes, operand: Any, at: Ints, fits: NDArray[np.bool_]
) -> tuple[tuple[Ints, Ints], Ints]:
    """Spans and opcode lengths of SHORT_BINUNICODE and BINUNICODE."""
    short = code == 0x8C
    long = code == 0x58
    size = (operand & np.uint64(0xFFFFFFFF)).astype(np.int64)
    size[short] &= 0xFF
    head = np.where(short, 2, 5)
    fits &= short | long
    return (at + head, at + head + size), head + size


def equal_texts(data: Bytes, starts: Ints, length: int) -> Iterator[tuple[Ints, int]]:
    """Group texts of one length by content.

    Args:
        data: the whole stream.
        starts: (n,) positions.
        length: bytes of each text.

    Yields:
        Numbers of the texts that are equal, and the position of one of them.
    """
    words = np.ndarray((len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))
    columns = []
    for begin in range(0, length, 8):
        part = words[np.minimum(starts + begin, len(words) - 1)]
        rest = length - begin
        columns.append(part if rest >= 8 else part & np.uint64((1 << 8 * rest) - 1))
    # Sorted by a hash, equal texts are neighbours; where different ones share it, they are only
    # split into more groups than there need be.
    mixed = np.zeros(len(starts), dtype=np.uint64)
    for column in columns:
        mixed = (mixed ^ column) * _MIX
        mixed ^= mixed >> np.uint64(29)
    order = np.argsort(mixed, kind="stable")
    new = np.zeros(len(order), dtype=bool)
    new[:1] = True
    for column in columns:
        ordered = column[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    bounds = np.flatnonzero(new)
    for first, stop in zip(bounds.tolist(), [*bounds[1:].tolist(), len(order)], strict=True):
        yield order[first:stop], int(starts[order[first]])
