"""A pickle machine that builds plain values and executes nothing.

It knows every opcode of protocols 0 to 5 (CPython's `pickletools.opcodes`) and imports no module
that a pickle names: each global goes to a `Policy`, which answers with a stand-in or refuses it by
name. Work and memory are bounded by the length of the stream, whatever it says of itself.

The machine reads what CPython's picklers write and refuses everything else that CPython's
unpicklers would take: opcodes of other protocols, memo entries put out of order, operands across
the end of a frame, bytes after STOP. So there is one way to read a stream, and torch has no other.

The classes that stand in a large `.metadata` by the million are handed to `blocks`, which decodes
long runs of them as NumPy columns.
"""

from __future__ import annotations

import _compat_pickle
import math
import struct
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

from dcpctl import limits
from dcpctl.errors import LimitExceeded, MalformedPickle, UnsafePickle, listed, printable, quote
from dcpctl.formats.pickles import container_ops, object_ops, scalar_ops
from dcpctl.formats.pickles.imports import (
    CALLED,
    CALLING,
    NAMED,
    SETTING,
    is_class_name,
    sets_hook,
    use_of_call,
)
from dcpctl.formats.pickles.opcodes import OPS, WRITTEN, Op, Stop
from dcpctl.formats.pickles.policy import Policy
from dcpctl.formats.pickles.standins import (
    DType,
    Global,
    Opaque,
    PlainValue,
    Record,
    StorageType,
)

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
#: Records that may be keys in `.metadata`: the one with a hash, and a run of such.
_KEYS = ("MetadataIndex", "StorageBlock")
#: What the state of a record in `.metadata` is, where it is no dict.
_STATES = {"TensorProperties": tuple}
#: Importing these fills `OPS`.
_OPCODE_MODULES = (scalar_ops, container_ops, object_ops)
_TABLE: list[Op] = [OPS.get(code, object_ops.unknown) for code in range(256)]
_NO_FRAME = 1 << 63
_SCALARS = (str, int, float, bool, type(None), bytes)


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
    return Machine(bytes(data), replace(policy, columnar=False), subject, persistent).run()


def _foreign(code: int) -> Op:
    """The opcode, noted as one that no pickler writes at the protocol of the stream."""
    known = _TABLE[code]

    def run(m: Machine) -> None:
        m.refuse_later(f"opcode 0x{code:02x}, which is not written at protocol {m.protocol}")
        known(m)

    return run


def _tables(foreign: bytes) -> dict[int, list[Op]]:
    """Protocol -> opcode table. Of protocols 0 and 1, which torch never wrote, all is foreign."""
    return {
        protocol: [
            _TABLE[code]
            if code in WRITTEN.get(protocol, ()) and code not in foreign
            else _foreign(code)
            for code in range(256)
        ]
        for protocol in range(6)
    }


#: By whether a policy is restricted: POP and POP_MARK are written for tuples that hold themselves,
#: LONG4 for integers of over 255 bytes.
_TABLES = {False: _tables(b""), True: _tables(b"01\x8b")}


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
    if len(head) > 1:
        machine.refuse_foreign()


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
        #: What PROTO says; 0 where there is none.
        self.protocol = data[1] if data[:1] == b"\x80" and len(data) > 1 else 0
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        #: By number of marks: members of a container that lie beneath the stack, out of reach of
        #: every opcode but the one that adds them to it. Blocks stand for many values.
        self.sealed: dict[int, list[Any]] = {}
        #: Where frames end, as far as is known, and the first of these ends that is not behind.
        self.frame_ends: list[int] = []
        self.frame_end = _NO_FRAME
        #: The first thing that no pickler writes. It is refused at the end, so that what is worse
        #: is told instead.
        self.foreign: str | None = None
        self.memo: dict[int, Any] = {}
        self.memo_length = 0
        self.globals: set[str] = set()
        #: Unknown global to what the pickle does with it: NAMED, MADE, VALUED or CALLED.
        self.uses: dict[str, int] = {}
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
        #: What `run` returned.
        self.result: Any = None
        if policy.columnar and len(data) >= _BLOCK_THRESHOLD:
            from dcpctl.formats.pickles.blocks import BlockDecoder, strip_frames

            stripped = strip_frames(data)
            if stripped is not None:
                self.data, self.frame_ends = stripped
                self.frame_end = self.frame_ends[0]
                self.blocks = BlockDecoder(self)

    @property
    def took_blocks(self) -> bool:
        """Whether runs of records were decoded as blocks."""
        return self.blocks is not None and bool(self.blocks.segments)

    def run(self) -> Any:
        """Execute the stream up to STOP and return the value on top of the stack."""
        data, tables = self.data, _TABLES[self.policy.restricted]
        table = tables.get(self.protocol, tables[0])
        try:
            while True:
                for _ in range(_STRIDE):
                    opcode = data[self.pos]
                    self.pos += 1
                    table[opcode](self)
                self.check_growth()
        except Stop:
            pass
        except (IndexError, struct.error):
            if self.pos >= len(data):
                self.fail_short("the stream ends too early")
            self.fail("an opcode finds too little on the stack")
        except KeyError as missing:
            self.fail(f"memo entry {missing} was never stored")
        except (UnicodeDecodeError, ValueError, OverflowError, TypeError) as error:
            self.fail(f"an operand does not decode ({type(error).__name__})")
        if self.marked or self.sealed or len(self.stack) != 1:
            self.fail("STOP with other than one value on the stack")
        if self.pos != len(data) and not self.cut:
            self.fail(f"{len(data) - self.pos} bytes after STOP")
        self.refuse_foreign()
        self.result = self.stack[0]
        return self.result

    # -- helpers ---------------------------------------------------------------------------------

    def fail(self, what: str) -> NoReturn:
        """Raise `MalformedPickle` naming the subject and the byte position."""
        raise MalformedPickle(
            f"{self.subject}: malformed pickle at byte {self.pos}: {what}{self._calls()}"
        )

    def _calls(self) -> str:
        """What loading the stream with torch calls, as far as it was read."""
        called = sorted(path for path, how in self.uses.items() if how == CALLED)
        return f"; loading it with torch calls {listed(called)}" if called else ""

    def fail_short(self, what: str) -> NoReturn:
        """`fail`, for what is no fault where only the beginning of a stream is decoded."""
        if self.cut:
            raise _Cut
        self.fail(what)

    def refuse_later(self, what: str) -> None:
        """Note what no pickler writes; `run` refuses the stream for it when all else is well."""
        if self.foreign is None:
            self.foreign = f"{self.subject}: malformed pickle before byte {self.pos}: {what}"

    def refuse_foreign(self) -> None:
        """Raise `MalformedPickle` for what `refuse_later` noted."""
        if self.foreign is not None:
            raise MalformedPickle(
                self.foreign + self._calls(),
                hint="no torch release writes this; what torch would read is not sure",
            )

    def begin_frame(self, start: int, end: int) -> None:
        """Note the frame that ends at `end`, whose opcode stands at `start`."""
        if self.frame_ends and start < self.frame_ends[-1]:
            self.fail("a frame begins inside another")
        self.frame_ends.append(end)
        self.frame_end = end

    def pass_frame_end(self, start: int, end: int) -> None:
        """Fail if the operand [start, end) runs across the end of a frame; move on if not.

        CPython's C unpickler never looks at where frames end, the Python one stops there.
        """
        number = bisect_left(self.frame_ends, start)
        if number == len(self.frame_ends):
            self.frame_end = _NO_FRAME
            return
        self.frame_end = self.frame_ends[number]
        if self.frame_end < end:
            self.fail("an operand runs across the end of a frame")

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
        if end > self.frame_end:
            self.pass_frame_end(start, end)
        self.pos = end
        return self.data[start:end]

    def line(self) -> bytes:
        """Return the next text operand, without its newline."""
        end = self.data.find(b"\n", self.pos)
        if end < 0:
            self.fail_short("a text operand has no end")
        if end >= self.frame_end:
            self.pass_frame_end(self.pos, end + 1)
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
        if len(self.marked) in self.sealed:
            self.fail("a run of records is not added to its container")
        items = self.stack
        self.stack = self.marked.pop()
        return items

    def pop_members(self) -> list[Any]:
        """`pop_mark`, for what is added to a list or dict: sealed members come first."""
        held = self.sealed.pop(len(self.marked), None) if self.sealed else None
        items = self.pop_mark()
        return items if held is None else held + items

    def seal(self, *values: Any) -> None:
        """Put all members above the topmost mark out of reach, and `values` on top of them."""
        held = self.sealed.setdefault(len(self.marked), [])
        held += self.stack
        held += values
        self.stack.clear()

    def recall(self, index: int) -> Any:
        """Return memo entry `index`, also where a block holds it."""
        if index in self.memo or self.blocks is None:
            return self.memo[index]
        return self.blocks.memo_value(index)

    def find(self, module: str, name: str) -> Any:
        """Resolve a global through the policy, once for each name."""
        known = self._known.get((module, name))
        if known is None:
            found = self._renamed(module, name)
            self.globals.add(".".join(found))
            known = self._known[(module, name)] = self.policy.find(*found, self.subject)
            foreign = "." in name and not self.policy.lenient
            if foreign or found[0] == "__builtin__":
                self.refuse_later(f"a global under another name than its own, {quote(name)}")
            if type(known) is Global and known.opaque:
                # What is reached through a module that another one imported is called on the way.
                through = "." in name and not is_class_name(name.partition(".")[0])
                self.use(known.path, CALLED if through else NAMED)
        return known

    def _renamed(self, module: str, name: str) -> tuple[str, str]:
        """The name of a global in Python 3: up to protocol 2 it is written as Python 2 knew it."""
        if self.protocol > 2:
            return module, name
        moved = _compat_pickle.NAME_MAPPING.get((module, name))
        if moved is not None:
            return moved
        return _compat_pickle.IMPORT_MAPPING.get(module, module), name

    def use_argument(self, args: tuple[Any, ...], position: int) -> None:
        """Note that a known function calls this argument of its own."""
        part = args[position] if position < len(args) else None
        if isinstance(part, Global) and part.opaque:
            self.use(part.path, CALLED)
        elif isinstance(part, Opaque) and part.type not in self.policy.table:
            self.use(f"{part.type}.__call__", CALLED)

    def use(self, path: str, how: int) -> None:
        """Note what the pickle does with an unknown global."""
        self.uses[path] = max(how, self.uses.get(path, NAMED))

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
        elif isinstance(key, Record):
            if not self.policy.lenient and key.name not in _KEYS:
                self.fail(f"a {key.type} cannot be a dict key")
            if not key.built:
                self.refuse_later(f"a {key.type} is a key before its state is set")
        elif not isinstance(key, (*_SCALARS, DType, Global, Opaque, PlainValue, StorageType)):
            # What stands in for a value hashes if the value does; a list does not.
            if not self.policy.lenient or getattr(type(key), "__hash__", None) is None:
                self.fail(f"a {type(key).__name__} cannot be a dict key")
            return Opaque(f"{type(key).__module__}.{type(key).__name__}")
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
            self.use(f"{function.type}.__call__", CALLED)
            return Opaque(function.type, args)
        if not isinstance(function, Global):
            self.fail(f"a {type(function).__name__} is called")
        if function.opaque:
            self.use(function.path, use_of_call(function.path, args))
            return Opaque(function.path, args)
        state = SETTING.get(function.path)
        if state is not None and sets_hook(args[state:]):
            self.use(f"{function.path}.__setstate__", CALLED)
        for position in CALLING.get(function.path, ()):
            self.use_argument(args, position)
        if function.path in object_ops.PICKLES_OWN:
            return object_ops.PICKLES_OWN[function.path](self, args)
        if function.call is None:
            raise UnsafePickle(
                f"{self.subject} calls {quote(function.path)}, which no DCP release does; "
                f"not loaded{self._calls()}"
            )
        self.spend_call(args)
        if function.hashes and args and isinstance(args[0], list):
            args = ([self.check_key(item) for item in args[0]], *args[1:])
        try:
            return function.call(args)
        except ValueError as error:
            self.fail(f"arguments of {quote(function.path)}: {printable(error)}")

    def build(self, target: Any, state: Any) -> Any:
        """What BUILD means: keep the state of a known record, drop that of an unknown one."""
        if isinstance(target, Record):
            if self.policy.lenient and sets_hook(state):
                self.use(f"{target.type}.__setstate__", CALLED)
            if target.built:
                self.refuse_later(f"the state of a {target.type} is set twice")
            target.built = True
            if not self.policy.lenient and type(state) is not _STATES.get(target.name, dict):
                self.fail(f"state of {target.type} is a {type(state).__name__}")
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
            if sets_hook(state):
                self.use(f"{target.type}.__setstate__", CALLED)
            target.state = state
            return target
        if self.policy.lenient and sets_hook(state):
            # An attribute of a dict or tensor hides the method, and the next BUILD calls it.
            self.use(f"{getattr(target, 'type', 'builtins.dict')}.__setstate__", CALLED)
        try:
            return self.policy.build(target, state, self.subject)
        except MalformedPickle as error:
            raise MalformedPickle(f"{error.message}{self._calls()}") from None
