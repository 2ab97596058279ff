"""From one decoded record to the template of all that are like it.

`learn` follows the record's opcodes with symbols in the place of values: what stands where a class
or a field name stood must be the same bytes in every record, what became a number, a name or a
shape may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dcpctl.formats.pickles.standins import Global, Size
from dcpctl.formats.pickles.templates import Constant, SizeSymbol, StorageFields, Template, Token


@dataclass(slots=True)
class _RecordSymbol:
    fields: dict[str, Any] = field(default_factory=dict)


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
        self.tokens: list[Token] = []
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []

    def follow(self, start: int, end: int) -> int:
        """Step through the opcodes; return the position after the first NEWOBJ."""
        data = self.data
        position, newobj = start, 0
        while position < end:
            code = data[position]
            length = operand_length(data, position)
            raw = data[position : position + length]
            step = _STEPS.get(code)
            if step is None:
                raise _Unlike
            kind = _KINDS.get(code, "fixed")
            self.tokens.append(Token(kind, raw))
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
        fields = (storage.fqn, storage.index_offset, storage.path, storage.transforms)
        used = set(_numbers_in(chunk if kind == "chunk" else fields))
        for number, token in enumerate(self.tokens):
            # What is no number, name or shape of the record has to be the same in all of them.
            if token.kind in ("get", "text") and number not in used:
                token.kind = "fixed"
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
        transforms = item.get("transform_descriptors")
        if not isinstance(transforms, (list, type(None))):
            raise _Unlike
        return StorageFields(
            self._named(index["fqn"]),
            None if offset is None else self._shape(offset),
            self._named(item["relative_path"]),
            self._number(item["offset"]),
            self._number(item["length"]),
            tuple(self._named(part) for part in transforms or ()),
        )

    def _named(self, symbol: Any) -> int:
        if type(symbol) is not int or self.tokens[symbol].kind not in ("get", "text"):
            raise _Unlike
        if type(self.tokens[symbol].value) is not str:  # a layout is told by a string too
            raise _Unlike
        return symbol

    def _number(self, symbol: Any) -> int:
        if type(symbol) is not int or self.tokens[symbol].kind != "int":
            raise _Unlike
        return symbol

    def _shape(self, symbol: Any) -> Any:
        if isinstance(symbol, SizeSymbol):
            return tuple(self._number(part) for part in symbol)
        if type(symbol) is int and isinstance(self.tokens[symbol].value, Size):
            return symbol
        raise _Unlike


def _numbers_in(symbol: Any) -> Iterator[int]:
    """The token numbers in a symbol."""
    if isinstance(symbol, tuple):
        for part in symbol:
            yield from _numbers_in(part)
    elif type(symbol) is int:
        yield symbol


class _Renumber:
    """Symbols with the token numbers of the merged token list."""

    def __init__(self, numbers: dict[int, int], tokens: list[Token]) -> None:
        self.numbers = numbers
        self.tokens = tokens

    def __call__(self, symbol: Any) -> Any:
        if isinstance(symbol, tuple):
            return type(symbol)(self(part) for part in symbol)
        if type(symbol) is int:
            token = self.tokens[symbol]
            return Constant(token.value) if token.kind == "fixed" else self.numbers[symbol]
        return symbol


def _merge(tokens: list[Token]) -> tuple[tuple[Token, ...], dict[int, int]]:
    merged: list[Token] = []
    numbers: dict[int, int] = {}
    for number, token in enumerate(tokens):
        if token.kind == "fixed" and merged and merged[-1].kind == "fixed":
            merged[-1].raw += token.raw
        else:
            merged.append(Token(token.kind, token.raw, token.value))
            numbers[number] = len(merged) - 1
    return tuple(merged), numbers


def operand_length(data: bytes, position: int) -> int:
    """Bytes of the opcode at `position` with its operand, for the opcodes that templates cover."""
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
    m.stack.append(SizeSymbol(dims))


def _set_items(m: _Learner, number: int) -> None:
    items = _pop_to_mark(m)
    target = m.stack[-1]
    if not isinstance(target, dict) or len(items) % 2:
        raise _Unlike
    for key, value in zip(items[::2], items[1::2], strict=True):
        name = m.fix(key)
        if type(name) is not str:
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
