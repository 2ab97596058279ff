"""A pickle machine that builds plain values and executes nothing.

It knows every opcode of protocols 0 to 5 (CPython's `pickletools.opcodes`) and imports no module
that a pickle names: each global goes to a `Policy`, which answers with a stand-in or refuses it by
name. Work and memory are bounded by the length of the stream, whatever it says of itself.

The classes that stand in a large `.metadata` by the million are handed to `blocks`, which decodes
long runs of them as NumPy columns.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

from dcpctl import limits
from dcpctl.errors import LimitExceeded, MalformedPickle, UnsafePickle, quote
from dcpctl.formats.pickles.policy import Policy
from dcpctl.formats.pickles.standins import DType, Global, Opaque, Record, StorageType

#: Streams shorter than this gain nothing from block decoding, which needs NumPy imported.
_BLOCK_THRESHOLD = 256 << 10
_MAX_STACK = 1_000_000
#: Opcodes between two looks at how much the stack and the memo have grown.
_STRIDE = 1 << 16
#: What one member of a container that a call copies takes off the budget of calls, in bytes.
_MEMBER_COST = 8
#: Most tuples as dict keys and set members. Python's hashes of numbers can be made to collide, and
#: then every further key is compared with all before it.
_MAX_TUPLE_KEYS = 10_000
_MAX_KEY = 1 << 64
#: Most characters of an integer in text: a byte takes 2.41 digits.
_MAX_DIGITS = 5 * limits.PICKLE_INT_BYTES // 2
_SCALARS = (str, int, float, bool, type(None), bytes)


class _Stop(Exception):
    pass


class _Cut(Exception):
    """The stream goes on where the data end."""


def load(
    data: bytes | memoryview,
    policy: Policy,
    *,
    subject: str,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Decode one pickle into plain values and stand-ins.

    Args:
        data: the whole stream.
        policy: which globals are known, and what an unknown one becomes.
        subject: what the stream is, for messages (`.metadata`, an FQN).
        persistent: maps a persistent id to a value; without it persistent ids are refused.

    Returns:
        The pickled object. Large `.metadata` streams hold `blocks.ChunkBlock` and
        `blocks.StorageBlock` values in the place of runs of records.

    Raises:
        MalformedPickle: the stream breaks the format, or does what no writer does.
        UnsafePickle: a global that `policy` does not know, or one used as it must not be.
        LimitExceeded: the stream asks for more than its length can justify.
    """
    return Machine(bytes(data), policy, subject, persistent).run()


def check_start(head: bytes, policy: Policy, *, subject: str) -> None:
    """Decode the beginning of a long stream, so that rubbish is refused before all of it is read.

    Args:
        head: its first bytes.
        policy: as in `load`.
        subject: as in `load`.

    Raises:
        As `load`, except for what may only be so because the stream is cut.
    """
    machine = Machine(head, replace(policy, columnar=False), subject, None)
    machine.cut = True
    with suppress(_Cut):
        machine.run()


class Machine:
    """The state of one decoding: stream, position, stack, marks and memo."""

    def __init__(
        self,
        data: bytes,
        policy: Policy,
        subject: str,
        persistent: Callable[[Any], Any] | None,
    ) -> None:
        self.data = data
        self.policy = policy
        self.subject = subject
        self.persistent = persistent
        self.pos = 0
        self.protocol = 0
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.memo_length = 0
        self.globals: set[str] = set()
        self._known: dict[tuple[str, str], Any] = {}
        #: Only the beginning of a longer stream is decoded.
        self.cut = False
        # Real streams build one container for every 9 bytes; a bomb builds one a byte.
        self.budget = 100_000 + len(data) // 3
        #: Opcodes left; a `.metadata` of any size is decoded.
        self.steps: float = math.inf
        if policy.lenient:
            self.budget = min(self.budget, limits.VALUE_CONTAINERS)
            # A value that is not a container takes one, or two if it is put into the memo.
            self.steps = 1.25 * limits.VALUE_NODES
        self.memo_limit = self.budget
        self.tuple_keys = _MAX_TUPLE_KEYS
        # Calls copy their arguments, which the memo can repeat at two bytes a time.
        self.call_budget = 1_000_000 + 4 * len(data)
        #: Where the opcode that last pushed a known class begins; None if it was not a memo get.
        self.class_position: int | None = None
        self.blocks: Any = None
        if policy.columnar and len(data) >= _BLOCK_THRESHOLD:
            from dcpctl.formats.pickles.blocks import BlockDecoder, strip_frames

            self.data = strip_frames(data)
            self.blocks = BlockDecoder(self)

    def run(self) -> Any:
        """Execute the stream up to STOP and return the value on top of the stack."""
        data, table = self.data, _TABLE
        try:
            while True:
                for _ in range(_STRIDE):
                    opcode = data[self.pos]
                    self.pos += 1
                    table[opcode](self)
                self.check_growth()
        except _Stop:
            pass
        except (IndexError, struct.error):
            if self.pos >= len(data):
                self.fail_short("the stream ends too early")
            self.fail("an opcode finds too little on the stack")
        except KeyError as missing:
            self.fail(f"memo entry {missing} was never stored")
        except (UnicodeDecodeError, ValueError, OverflowError, TypeError) as error:
            self.fail(f"an operand does not decode ({type(error).__name__})")
        if self.marked or len(self.stack) != 1:
            self.fail("STOP with other than one value on the stack")
        return self.stack[0]

    # -- helpers ---------------------------------------------------------------------------------

    def fail(self, what: str) -> NoReturn:
        """Raise `MalformedPickle` naming the subject and the byte position."""
        raise MalformedPickle(f"{self.subject}: malformed pickle at byte {self.pos}: {what}")

    def fail_short(self, what: str) -> NoReturn:
        """`fail`, for what is no fault where only the beginning of a stream is decoded."""
        if self.cut:
            raise _Cut
        self.fail(what)

    def spend(self, units: int = 1) -> None:
        """Take `units` containers off the budget, and check that the stack is no bomb."""
        self.budget -= units
        if self.budget < 0 or len(self.stack) > _MAX_STACK:
            self.refuse_growth()

    def spend_call(self, arguments: Any) -> None:
        """Take the copying of these arguments off the budget of calls."""
        self.call_budget -= 1
        for part in arguments:
            if isinstance(part, (str, bytes, bytearray)):
                self.call_budget -= len(part)
            elif isinstance(part, (tuple, list, dict, set, frozenset)):
                self.call_budget -= _MEMBER_COST * len(part)
        if self.call_budget < 0:
            raise LimitExceeded(f"{self.subject}: the pickle repeats calls on large arguments")

    def check_growth(self) -> None:
        """See that opcodes which build no container have not piled up values either."""
        self.steps -= _STRIDE
        if self.steps < 0 or len(self.stack) > _MAX_STACK or len(self.memo) > self.memo_limit:
            self.refuse_growth()

    def refuse_growth(self) -> NoReturn:
        """Raise `LimitExceeded` for a stream that builds too much."""
        raise LimitExceeded(
            f"{self.subject}: the pickle builds more objects than {len(self.data)} bytes "
            "of a real one do"
        )

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes of the stream."""
        start = self.pos
        end = start + count
        if count > limits.PICKLE_OPERAND_BYTES and (self.cut or end <= len(self.data)):
            raise LimitExceeded(f"{self.subject}: an operand of {count} bytes in a pickle")
        if end > len(self.data):
            self.fail_short(f"an operand of {count} bytes does not fit into {len(self.data)} bytes")
        self.pos = end
        return self.data[start:end]

    def line(self) -> bytes:
        """Return the next text operand, without its newline."""
        end = self.data.find(b"\n", self.pos)
        if end < 0:
            self.fail_short("a text operand has no end")
        start, self.pos = self.pos, end + 1
        return self.data[start:end]

    def u32(self) -> int:
        """Return the next 4 bytes as an unsigned little-endian integer."""
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        """Return the next 8 bytes as an unsigned little-endian integer."""
        return int.from_bytes(self.take(8), "little")

    def pop_mark(self) -> list[Any]:
        """Return the values above the topmost mark, and drop the mark."""
        if not self.marked:
            self.fail("no mark on the stack")
        items = self.stack
        self.stack = self.marked.pop()
        return items

    def recall(self, index: int) -> Any:
        """Return memo entry `index`, also where a block holds it."""
        if index in self.memo or self.blocks is None:
            return self.memo[index]
        return self.blocks.memo_value(index)

    def find(self, module: str, name: str) -> Any:
        """Resolve a global through the policy, once for each name."""
        known = self._known.get((module, name))
        if known is None:
            self.globals.add(f"{module}.{name}")
            known = self._known[(module, name)] = self.policy.find(module, name, self.subject)
        return known

    def check_key(self, key: Any) -> Any:
        """Return `key` if hashing it is cheap and safe, else fail.

        A tuple that repeats another tuple many levels deep would take forever to hash.
        """
        if isinstance(key, tuple):
            self.tuple_keys -= 1
            if self.tuple_keys < 0:
                raise LimitExceeded(f"{self.subject}: over {_MAX_TUPLE_KEYS} tuples as dict keys")
            if not self.is_flat(key, deeper=True):
                self.fail("a dict key or set member is a deep tuple")
        elif isinstance(key, int):
            # Of the integers up to this one, no more than 16 have one hash.
            if not -_MAX_KEY < key < _MAX_KEY:
                self.fail("a dict key or set member is an integer of over 64 bits")
        elif not isinstance(key, (*_SCALARS, DType, Global, Opaque, Record, StorageType)):
            if not self.policy.lenient:
                self.fail(f"a {type(key).__name__} cannot be a dict key")
            return Opaque(f"builtins.{type(key).__name__}")
        return key

    def is_flat(self, key: tuple[Any, ...], *, deeper: bool) -> bool:
        """True for a short tuple of scalars, and with `deeper` of such tuples."""
        return len(key) <= limits.TENSOR_DIMS and all(
            isinstance(item, _SCALARS)
            or (deeper and isinstance(item, tuple) and self.is_flat(item, deeper=False))
            for item in key
        )

    def call(self, function: Any, args: Any) -> Any:
        """What REDUCE means: the policy's function for a known global, a stand-in for others."""
        if not isinstance(args, tuple):
            self.fail("arguments of a call are not a tuple")
        self.spend()
        if isinstance(function, Opaque):
            return Opaque(function.type)
        if not isinstance(function, Global):
            self.fail(f"a {type(function).__name__} is called")
        if function.opaque:
            return self.policy.opaque_call(function.path, args)
        if function.call is None:
            raise UnsafePickle(
                f"{self.subject} calls {quote(function.path)}, which no DCP release does; "
                "not loaded"
            )
        self.spend_call(args)
        if function.hashes and args and isinstance(args[0], list):
            args = ([self.check_key(item) for item in args[0]], *args[1:])
        return function.call(args)

    def build(self, target: Any, state: Any) -> Any:
        """What BUILD means: keep the state of a known record, drop that of an unknown one."""
        if isinstance(target, Record):
            if isinstance(state, tuple) and len(state) == 2 and state[0] is None:
                state = state[1]
            if isinstance(state, dict):
                self.spend_call((state,))
                if not all(isinstance(key, str) for key in state):
                    self.fail(f"state of {target.type} has keys that are no strings")
                target.fields.update(state)
            else:
                target.fields["__state__"] = state
            return self.policy.finish(target)
        if isinstance(target, Opaque):
            return target
        return self.policy.build(target, state, self.subject)


Op = Callable[[Machine], None]
_OPS: dict[int, Op] = {}


def _op(char: bytes) -> Callable[[Op], Op]:
    def register(function: Op) -> Op:
        _OPS[char[0]] = function
        return function

    return register


def _constant(char: bytes, value: Any) -> None:
    def push(m: Machine) -> None:
        m.stack.append(value)

    _OPS[char[0]] = push


for _char, _value in ((b"N", None), (b"\x88", True), (b"\x89", False), (b")", ())):
    _constant(_char, _value)


# -- stream ----------------------------------------------------------------------------------------


@_op(b"\x80")
def _proto(m: Machine) -> None:
    m.protocol = m.take(1)[0]
    if m.protocol > 5:
        m.fail(f"protocol {m.protocol} is unknown")


@_op(b"\x95")
def _frame(m: Machine) -> None:
    if m.u64() > len(m.data) - m.pos:
        m.fail_short("a frame is longer than the stream")


@_op(b".")
def _stop(m: Machine) -> None:
    raise _Stop


# -- scalars ---------------------------------------------------------------------------------------


@_op(b"K")
def _binint1(m: Machine) -> None:
    m.stack.append(m.data[m.pos])
    m.pos += 1


@_op(b"M")
def _binint2(m: Machine) -> None:
    m.stack.append(int.from_bytes(m.take(2), "little"))


@_op(b"J")
def _binint(m: Machine) -> None:
    m.stack.append(int.from_bytes(m.take(4), "little", signed=True))


def _long(m: Machine, length: int) -> None:
    if length > limits.PICKLE_INT_BYTES:
        raise LimitExceeded(f"{m.subject}: an integer of {length} bytes in a pickle")
    m.stack.append(int.from_bytes(m.take(length), "little", signed=True))


@_op(b"\x8a")
def _long1(m: Machine) -> None:
    _long(m, m.take(1)[0])


@_op(b"\x8b")
def _long4(m: Machine) -> None:
    _long(m, m.u32())


@_op(b"I")
def _int(m: Machine) -> None:
    text = m.line()
    if len(text) > _MAX_DIGITS:
        raise LimitExceeded(f"{m.subject}: an integer of {len(text)} digits in a pickle")
    # Protocol 0 has no opcode for a bool; it writes these two spellings instead.
    m.stack.append(text == b"01" if text in (b"00", b"01") else int(text))


@_op(b"L")
def _long_text(m: Machine) -> None:
    text = m.line().rstrip(b"L")
    if len(text) > _MAX_DIGITS:
        raise LimitExceeded(f"{m.subject}: an integer of {len(text)} digits in a pickle")
    m.stack.append(int(text))


@_op(b"F")
def _float_text(m: Machine) -> None:
    m.stack.append(float(m.line()))


@_op(b"G")
def _binfloat(m: Machine) -> None:
    m.stack.append(struct.unpack(">d", m.take(8))[0])


# -- strings ---------------------------------------------------------------------------------------


@_op(b"\x8c")
def _short_binunicode(m: Machine) -> None:
    m.stack.append(m.take(m.take(1)[0]).decode("utf-8", "surrogatepass"))


@_op(b"X")
def _binunicode(m: Machine) -> None:
    m.stack.append(m.take(m.u32()).decode("utf-8", "surrogatepass"))


@_op(b"\x8d")
def _binunicode8(m: Machine) -> None:
    m.stack.append(m.take(m.u64()).decode("utf-8", "surrogatepass"))


@_op(b"V")
def _unicode_text(m: Machine) -> None:
    m.stack.append(m.line().decode("raw-unicode-escape"))


@_op(b"S")
def _string_text(m: Machine) -> None:
    text = m.line()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        m.fail("a string operand has no quotes")
    m.stack.append(text[1:-1].decode("unicode-escape"))


@_op(b"U")
def _short_binstring(m: Machine) -> None:
    m.stack.append(m.take(m.take(1)[0]).decode("latin-1"))


@_op(b"T")
def _binstring(m: Machine) -> None:
    m.stack.append(m.take(m.u32()).decode("latin-1"))


@_op(b"C")
def _short_binbytes(m: Machine) -> None:
    m.stack.append(m.take(m.take(1)[0]))


@_op(b"B")
def _binbytes(m: Machine) -> None:
    m.stack.append(m.take(m.u32()))


@_op(b"\x8e")
def _binbytes8(m: Machine) -> None:
    m.stack.append(m.take(m.u64()))


@_op(b"\x96")
def _bytearray8(m: Machine) -> None:
    m.stack.append(bytearray(m.take(m.u64())))


# -- containers ------------------------------------------------------------------------------------


@_op(b"(")
def _mark(m: Machine) -> None:
    m.spend()
    m.marked.append(m.stack)
    m.stack = []


@_op(b"]")
def _empty_list(m: Machine) -> None:
    m.spend()
    m.stack.append([])


@_op(b"}")
def _empty_dict(m: Machine) -> None:
    m.spend()
    m.stack.append({})


@_op(b"\x8f")
def _empty_set(m: Machine) -> None:
    m.spend(4)
    m.stack.append(set())


@_op(b"t")
def _tuple(m: Machine) -> None:
    m.spend()
    items = m.pop_mark()
    m.stack.append(tuple(items))


@_op(b"l")
def _list(m: Machine) -> None:
    m.spend()
    items = m.pop_mark()
    m.stack.append(items)


@_op(b"d")
def _dict(m: Machine) -> None:
    m.spend()
    items = m.pop_mark()
    made: dict[Any, Any] = {}
    _set_items(m, made, items)
    m.stack.append(made)


@_op(b"\x85")
def _tuple1(m: Machine) -> None:
    m.spend()
    m.stack[-1] = (m.stack[-1],)


@_op(b"\x86")
def _tuple2(m: Machine) -> None:
    m.spend()
    last = m.stack.pop()
    m.stack[-1] = (m.stack[-1], last)


@_op(b"\x87")
def _tuple3(m: Machine) -> None:
    m.spend()
    last = m.stack.pop()
    middle = m.stack.pop()
    m.stack[-1] = (m.stack[-1], middle, last)


@_op(b"\x91")
def _frozenset(m: Machine) -> None:
    m.spend(4)
    items = m.pop_mark()
    m.stack.append(frozenset(m.check_key(item) for item in items))


def _set_items(m: Machine, target: Any, items: list[Any]) -> None:
    if isinstance(target, Opaque):
        return
    if not isinstance(target, dict):
        m.fail(f"items are set on a {type(target).__name__}")
    if len(items) % 2:
        m.fail("an odd number of dict items")
    for index in range(0, len(items), 2):
        key = items[index]
        target[key if type(key) is str else m.check_key(key)] = items[index + 1]


def _append_items(m: Machine, target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Opaque):
        m.fail(f"items are appended to a {type(target).__name__}")


@_op(b"s")
def _setitem(m: Machine) -> None:
    value = m.stack.pop()
    key = m.stack.pop()
    _set_items(m, m.stack[-1], [key, value])


@_op(b"u")
def _setitems(m: Machine) -> None:
    items = m.pop_mark()
    _set_items(m, m.stack[-1], items)


@_op(b"a")
def _append(m: Machine) -> None:
    value = m.stack.pop()
    _append_items(m, m.stack[-1], [value])


@_op(b"e")
def _appends(m: Machine) -> None:
    items = m.pop_mark()
    _append_items(m, m.stack[-1], items)


@_op(b"\x90")
def _additems(m: Machine) -> None:
    items = m.pop_mark()
    target = m.stack[-1]
    if isinstance(target, set):
        target.update(m.check_key(item) for item in items)
    elif not isinstance(target, Opaque):
        m.fail(f"items are added to a {type(target).__name__}")


# -- stack and memo --------------------------------------------------------------------------------


@_op(b"0")
def _pop(m: Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.pop_mark()


@_op(b"1")
def _pop_mark(m: Machine) -> None:
    m.pop_mark()


@_op(b"2")
def _dup(m: Machine) -> None:
    m.spend()
    m.stack.append(m.stack[-1])


@_op(b"\x94")
def _memoize(m: Machine) -> None:
    m.memo[m.memo_length] = m.stack[-1]
    m.memo_length += 1


def _put(m: Machine, index: int) -> None:
    if index < 0:
        m.fail("a negative memo index")
    if m.blocks is not None:
        # Blocks number the memo by counting MEMOIZE; a stream that names indices is not theirs.
        m.blocks.disable()
    if index not in m.memo:
        m.memo_length += 1
    m.memo[index] = m.stack[-1]


@_op(b"p")
def _put_text(m: Machine) -> None:
    _put(m, int(m.line()))


@_op(b"q")
def _binput(m: Machine) -> None:
    _put(m, m.take(1)[0])


@_op(b"r")
def _long_binput(m: Machine) -> None:
    _put(m, m.u32())


def _get(m: Machine, index: int, start: int) -> None:
    value = m.recall(index)
    m.stack.append(value)
    if type(value) is Global:
        m.class_position = start


@_op(b"g")
def _get_text(m: Machine) -> None:
    start = m.pos - 1
    _get(m, int(m.line()), start)


@_op(b"h")
def _binget(m: Machine) -> None:
    start = m.pos - 1
    m.pos += 1
    _get(m, m.data[start + 1], start)


@_op(b"j")
def _long_binget(m: Machine) -> None:
    start = m.pos - 1
    _get(m, m.u32(), start)


# -- globals and objects ---------------------------------------------------------------------------


@_op(b"c")
def _global(m: Machine) -> None:
    module = m.line().decode("utf-8")
    name = m.line().decode("utf-8")
    m.class_position = None
    m.stack.append(m.find(module, name))


@_op(b"\x93")
def _stack_global(m: Machine) -> None:
    name = m.stack.pop()
    module = m.stack.pop()
    if type(name) is not str or type(module) is not str:
        m.fail("a global is named by other than strings")
    m.class_position = None
    m.stack.append(m.find(module, name))


@_op(b"R")
def _reduce(m: Machine) -> None:
    args = m.stack.pop()
    m.stack[-1] = m.call(m.stack[-1], args)


def _new_object(m: Machine, cls: Any, args: Any) -> Any:
    if not isinstance(args, tuple):
        m.fail("arguments of a constructor are not a tuple")
    if isinstance(cls, Global) and cls.record:
        m.spend(2)
        if m.blocks is not None and cls.columnar:
            m.blocks.record_begins(cls.columnar, m.class_position)
        return Record(cls.path, {}, args)
    return m.call(cls, args)


@_op(b"\x81")
def _newobj(m: Machine) -> None:
    args = m.stack.pop()
    m.stack[-1] = _new_object(m, m.stack[-1], args)


@_op(b"\x92")
def _newobj_ex(m: Machine) -> None:
    keywords = m.stack.pop()
    args = m.stack.pop()
    if not isinstance(keywords, dict):
        m.fail("keyword arguments of a constructor are not a dict")
    m.stack[-1] = _new_object(m, m.stack[-1], args)


@_op(b"i")
def _inst(m: Machine) -> None:
    module = m.line().decode("utf-8")
    name = m.line().decode("utf-8")
    args = tuple(m.pop_mark())
    m.stack.append(_new_object(m, m.find(module, name), args))


@_op(b"o")
def _obj(m: Machine) -> None:
    items = m.pop_mark()
    if not items:
        m.fail("an object without a class")
    m.stack.append(_new_object(m, items[0], tuple(items[1:])))


@_op(b"b")
def _build(m: Machine) -> None:
    state = m.stack.pop()
    target = m.stack[-1] = m.build(m.stack[-1], state)
    if m.blocks is not None and type(target) is Record:
        m.blocks.record_ends(target)


def _persistent(m: Machine, key: Any) -> None:
    if m.persistent is None:
        raise UnsafePickle(
            f"{m.subject} has a persistent id, which no DCP release writes here; not loaded"
        )
    m.stack.append(m.persistent(key))


@_op(b"P")
def _persid(m: Machine) -> None:
    _persistent(m, m.line().decode("ascii"))


@_op(b"Q")
def _binpersid(m: Machine) -> None:
    _persistent(m, m.stack.pop())


def _unknown(m: Machine) -> None:
    opcode = m.data[m.pos - 1]
    if opcode in b"\x82\x83\x84\x97\x98":
        # EXT1, EXT2, EXT4 and the out-of-band buffers refer to what is not in the stream.
        raise UnsafePickle(
            f"{m.subject} uses pickle opcode 0x{opcode:02x} at byte {m.pos - 1}, "
            "which no DCP release writes; not loaded"
        )
    m.fail(f"unknown opcode 0x{opcode:02x}")


_TABLE: list[Op] = [_OPS.get(code, _unknown) for code in range(256)]
