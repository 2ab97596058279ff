"""The opcode pattern of one pickled record, and its use on many records at once.

`learn` follows the opcodes of a record that the machine has just decoded, with symbols in the
place of values. What comes out says which opcodes are the same in every such record, which carry
an integer, a text or a memo index, and what each of those means. `Template.decode` then steps
through thousands of candidates together, one NumPy operation an opcode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpctl.formats.pickles.standins import Global, Size

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

_MIX = np.uint64(0x9E3779B97F4A7C15)
#: Bytes that a vectorised read may touch after a position.
_SLACK = 16


@dataclass(slots=True)
class _Token:
    """One opcode of the pattern: `kind` is fixed, int, get or text."""

    kind: str
    raw: bytes
    memo_before: int
    value: Any = None


class _SizeSymbol(tuple[Any, ...]):
    """The arguments of a `torch.Size` under construction."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Constant:
    """A value that is the same in every record."""

    value: Any


@dataclass(slots=True)
class _RecordSymbol:
    fields: dict[str, Any] = field(default_factory=dict)


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
        if isinstance(symbol, _SizeSymbol):
            return Size(self._value(data, part, row) for part in symbol)
        if isinstance(symbol, tuple):
            return tuple(self._value(data, part, row) for part in symbol)
        if type(symbol) is int:
            cell = self.cells[symbol]
            if isinstance(cell, tuple):
                return data[cell[0][row] : cell[1][row]].decode("utf-8", "surrogatepass")
            return int(cell[row])
        if isinstance(symbol, _Constant):
            return symbol.value
        raise KeyError(f"of a record ({type(symbol).__name__})")

    def memo_dims(self, slot: int, rows: Ints) -> Ints | None:
        """(len(rows), d) integers of memo entry `slot`; None if it is no `torch.Size`."""
        symbol = self.memo[slot]
        if not isinstance(symbol, _SizeSymbol):
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

    tokens: tuple[_Token, ...]
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


# -- learning --------------------------------------------------------------------------------------


def learn(
    data: bytes, start: int, end: int, kind: str, recall: Callable[[int], Any]
) -> Template | None:
    """Make a template of the record at `data[start:end]`, which the machine has decoded.

    Args:
        data: the stream.
        start: position of the opcode that pushes the record's class (a memo get).
        end: position after the record.
        kind: `chunk`, or `storage` for a `MetadataIndex` and `_StorageInfo` pair.
        recall: looks up memo entries.

    Returns:
        None if the record holds an opcode or a value that templates do not cover.
    """
    learner = _Learner(data, recall)
    try:
        newobj = learner.follow(start, end)
        return learner.template(kind, data[start:newobj])
    except (_Unlike, KeyError, IndexError, ValueError):
        return None


class _Unlike(Exception):
    pass


class _Learner:
    def __init__(self, data: bytes, recall: Callable[[int], Any]) -> None:
        self.data = data
        self.recall = recall
        self.tokens: list[_Token] = []
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []

    def follow(self, start: int, end: int) -> int:
        """Step through the opcodes; return the position after the first NEWOBJ."""
        data = self.data
        position, newobj = start, 0
        while position < end:
            code = data[position]
            length = _operand_length(data, position)
            raw = data[position : position + length]
            step = _STEPS.get(code)
            if step is None:
                raise _Unlike
            kind = _KINDS.get(code, "fixed")
            self.tokens.append(_Token(kind, raw, len(self.memo)))
            step(self, len(self.tokens) - 1)
            position += length
            if code == 0x81 and not newobj:
                newobj = position
        if position != end or self.marks:
            raise _Unlike
        return newobj

    def fix(self, symbol: Any) -> Any:
        """Require a token to be the same bytes in every record; return its value."""
        if type(symbol) is not int:
            raise _Unlike
        token = self.tokens[symbol]
        if token.kind == "int":
            raise _Unlike
        token.kind = "fixed"
        return token.value

    def template(self, kind: str, head: bytes) -> Template:
        """The finished pattern."""
        chunk: tuple[Any, Any] = ((), ())
        storage = StorageFields(0, None, 0, 0, 0, ())
        if kind == "chunk":
            (record,) = self.stack
            if not isinstance(record, _RecordSymbol):
                raise _Unlike
            chunk = (self._shape(record.fields["offsets"]), self._shape(record.fields["sizes"]))
            if set(record.fields) != {"offsets", "sizes"}:
                raise _Unlike
        else:
            index, item = self.stack
            if not isinstance(index, _RecordSymbol) or not isinstance(item, _RecordSymbol):
                raise _Unlike
            storage = self._storage(index.fields, item.fields)
        tokens, renumbered = _merge(self.tokens)
        signature = tuple((t.kind, t.raw if t.kind == "fixed" else b"") for t in tokens)
        move = _Renumber(renumbered, self.tokens)
        return Template(
            tokens,
            head,
            [move(symbol) for symbol in self.memo],
            (move(chunk[0]), move(chunk[1])),
            StorageFields(
                move(storage.fqn),
                move(storage.index_offset),
                move(storage.path),
                move(storage.offset),
                move(storage.length),
                tuple(move(part) for part in storage.transforms),
            ),
            signature,
        )

    def _storage(self, index: dict[str, Any], item: dict[str, Any]) -> StorageFields:
        if not set(index) <= {"fqn", "index", "offset"}:
            raise _Unlike
        if not set(item) <= {"relative_path", "offset", "length", "transform_descriptors"}:
            raise _Unlike
        offset = index.get("offset")
        transforms = item.get("transform_descriptors") or []
        return StorageFields(
            self._named(index["fqn"]),
            None if offset is None else self._shape(offset),
            self._named(item["relative_path"]),
            self._number(item["offset"]),
            self._number(item["length"]),
            tuple(self._named(part) for part in transforms),
        )

    def _named(self, symbol: Any) -> int:
        if type(symbol) is not int or self.tokens[symbol].kind not in ("get", "text"):
            raise _Unlike
        if not isinstance(self.tokens[symbol].value, str):
            raise _Unlike
        return symbol

    def _number(self, symbol: Any) -> int:
        if type(symbol) is not int or self.tokens[symbol].kind != "int":
            raise _Unlike
        return symbol

    def _shape(self, symbol: Any) -> Any:
        if isinstance(symbol, _SizeSymbol):
            return tuple(self._number(part) for part in symbol)
        if type(symbol) is int and isinstance(self.tokens[symbol].value, Size):
            return symbol
        raise _Unlike


class _Renumber:
    """Symbols with the token numbers of the merged token list."""

    def __init__(self, numbers: dict[int, int], tokens: list[_Token]) -> None:
        self.numbers = numbers
        self.tokens = tokens

    def __call__(self, symbol: Any) -> Any:
        if isinstance(symbol, tuple):
            return type(symbol)(self(part) for part in symbol)
        if type(symbol) is int:
            token = self.tokens[symbol]
            return _Constant(token.value) if token.kind == "fixed" else self.numbers[symbol]
        return symbol


def _merge(tokens: list[_Token]) -> tuple[tuple[_Token, ...], dict[int, int]]:
    merged: list[_Token] = []
    numbers: dict[int, int] = {}
    for number, token in enumerate(tokens):
        if token.kind == "fixed" and merged and merged[-1].kind == "fixed":
            merged[-1].raw += token.raw
        else:
            merged.append(_Token(token.kind, token.raw, token.memo_before, token.value))
            numbers[number] = len(merged) - 1
    return tuple(merged), numbers


def _operand_length(data: bytes, position: int) -> int:
    code = data[position]
    if code in (0x8C, 0x8A):
        return 2 + data[position + 1]
    if code == 0x58:
        return 5 + int.from_bytes(data[position + 1 : position + 5], "little")
    return _LENGTHS.get(code, 1)


_LENGTHS = {0x4B: 2, 0x4D: 3, 0x4A: 5, 0x68: 2, 0x6A: 5}
_KINDS = {0x4B: "int", 0x4D: "int", 0x4A: "int", 0x8A: "int"}
_KINDS |= {0x68: "get", 0x6A: "get", 0x8C: "text", 0x58: "text"}
Step = Callable[[_Learner, int], None]


def _push_token(m: _Learner, number: int) -> None:
    token = m.tokens[number]
    if token.kind == "get":
        token.value = m.recall(int.from_bytes(token.raw[1:], "little"))
    elif token.kind == "text":
        head = 2 if token.raw[0] == 0x8C else 5
        token.value = token.raw[head:].decode("utf-8", "surrogatepass")
    m.stack.append(number)


def _push(make: Callable[[], Any]) -> Step:
    def step(m: _Learner, number: int) -> None:
        m.stack.append(make())

    return step


def _pop_to_mark(m: _Learner) -> list[Any]:
    base = m.marks.pop()
    items = m.stack[base:]
    del m.stack[base:]
    return items


def _tuple_of(count: int) -> Step:
    def step(m: _Learner, number: int) -> None:
        items = m.stack[len(m.stack) - count :]
        if len(items) != count:
            raise _Unlike
        del m.stack[len(m.stack) - count :]
        m.stack.append(tuple(items))

    return step


def _tuple_to_mark(m: _Learner, number: int) -> None:
    m.stack.append(tuple(_pop_to_mark(m)))


def _new_object(m: _Learner, number: int) -> None:
    args = m.stack.pop()
    cls = m.fix(m.stack.pop())
    if args != () or not isinstance(cls, Global) or not cls.record:
        raise _Unlike
    m.stack.append(_RecordSymbol())


def _reduce(m: _Learner, number: int) -> None:
    args = m.stack.pop()
    cls = m.fix(m.stack.pop())
    if not isinstance(cls, Global) or cls.path != "torch.Size" or not isinstance(args, tuple):
        raise _Unlike
    (dims,) = args
    if not isinstance(dims, tuple):
        raise _Unlike
    m.stack.append(_SizeSymbol(dims))


def _set_items(m: _Learner, number: int) -> None:
    items = _pop_to_mark(m)
    target = m.stack[-1]
    if not isinstance(target, dict) or len(items) % 2:
        raise _Unlike
    for key, value in zip(items[::2], items[1::2], strict=True):
        name = m.fix(key)
        if not isinstance(name, str):
            raise _Unlike
        target[name] = value


def _append(m: _Learner, number: int) -> None:
    value = m.stack.pop()
    if not isinstance(m.stack[-1], list):
        raise _Unlike
    m.stack[-1].append(value)


def _build(m: _Learner, number: int) -> None:
    state = m.stack.pop()
    target = m.stack[-1]
    if not isinstance(target, _RecordSymbol) or not isinstance(state, dict):
        raise _Unlike
    target.fields.update(state)


def _memoize(m: _Learner, number: int) -> None:
    m.memo.append(m.stack[-1])


def _mark(m: _Learner, number: int) -> None:
    m.marks.append(len(m.stack))


_STEPS: dict[int, Step] = dict.fromkeys(_KINDS, _push_token) | {
    ord("N"): _push(lambda: None),
    ord(")"): _push(tuple),
    ord("}"): _push(dict),
    ord("]"): _push(list),
    ord("("): _mark,
    ord("t"): _tuple_to_mark,
    0x85: _tuple_of(1),
    0x86: _tuple_of(2),
    0x87: _tuple_of(3),
    0x81: _new_object,
    ord("R"): _reduce,
    ord("u"): _set_items,
    ord("a"): _append,
    ord("b"): _build,
    0x94: _memoize,
}
