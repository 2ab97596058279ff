"""Write pickles: plain values, stand-ins and calls of known globals, without importing their class.

The opcodes are those of CPython's pickler, so that for the values that torch.save writes the bytes
are the same too. Output depends on the value alone: equal strings are written once, whether they
are one object or not, and the members of a set are sorted.
"""

from __future__ import annotations

import collections
import struct
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dcpctl import limits
from dcpctl.errors import Refused, quote
from dcpctl.formats.pickles import standard
from dcpctl.formats.pickles.standins import (
    Device,
    DType,
    PathText,
    PlainValue,
    Record,
    Size,
)

#: Pickled containers are filled a thousand items at a time, as CPython does.
BATCH = 1000
#: Bytes of one FRAME (protocol 4), as CPython's.
_FRAME_BYTES = 64 << 10
_TUPLES = {1: b"\x85", 2: b"\x86", 3: b"\x87"}
_SINGLETONS: dict[Any, bytes] = {None: b"N", True: b"\x88", False: b"\x89"}

Reduce = Callable[[object], object]


@dataclass(frozen=True, slots=True)
class GlobalRef:
    """A class or function by its name.

    Attributes:
        path: `module.name`.
    """

    path: str


@dataclass(frozen=True, slots=True)
class Call:
    """What a global returns when the pickle is loaded (REDUCE).

    Attributes:
        path: `module.name` of the global.
        args: its arguments.
    """

    path: str
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Persistent:
    """An object that the loader looks up by its persistent id (BINPERSID).

    Attributes:
        id: the id; for torch.save a tuple that names a storage.
    """

    id: tuple[Any, ...]


def dumps(value: object, *, protocol: int = 2, reduce: Reduce | None = None) -> bytes:
    """Pickle a value.

    Args:
        value: None, bool, int, float, complex, str, bytes, bytearray, tuple, list, dict,
            OrderedDict, deque, Counter, set and frozenset of such, the standard library's values
            that `standard` makes, and `Size`, `DType`, `Device`, `PlainValue`, `Record`,
            `GlobalRef`, `Call` and `Persistent`.
        protocol: 2 (what torch.save writes) or 4 (what `.metadata` has).
        reduce: says for an object of any other type what is to be written in its place.

    Raises:
        Refused: the value holds an object that cannot be written: an `Opaque`, whose state was
            never decoded, a class that is none of the above, or a value nested too deeply.
    """
    emitter = Emitter(protocol, reduce=reduce)
    emitter.save(value)
    return emitter.finish()


class Emitter:
    """Collects the opcodes of one pickle.

    `save` takes any value. `text`, `named` and `integer` return opcodes for what is written by the
    million; their result must be passed to `write` in the order in which they were called, since
    the first mention of a string or a global defines it and later ones refer to it.

    Args:
        protocol: 2 or 4.
        reduce: as for `dumps`.
    """

    def __init__(self, protocol: int, *, reduce: Reduce | None = None) -> None:
        if protocol not in (2, 4):
            msg = f"protocol {protocol}"
            raise ValueError(msg)
        self.protocol = protocol
        self.memo_size = 0
        self._reduce = reduce
        self._texts: dict[str, bytes] = {}
        self._globals: dict[str, bytes] = {}
        # The object itself is kept, or its id could be given to another.
        self._objects: dict[int, tuple[bytes, object]] = {}
        self._depth = 0
        self._parts: list[bytes] = []
        self._frame: list[bytes] = []
        self._frame_size = 0

    # -- stream -----------------------------------------------------------------------------------

    def write(self, opcodes: bytes) -> None:
        """Append whole opcodes."""
        self._frame.append(opcodes)
        self._frame_size += len(opcodes)
        if self._frame_size >= _FRAME_BYTES:
            self._close_frame()

    def finish(self) -> bytes:
        """End the pickle and return all of it."""
        self.write(b".")
        self._close_frame()
        return b"".join((b"\x80%c" % self.protocol, *self._parts))

    def _close_frame(self) -> None:
        if self.protocol >= 4 and self._frame_size:
            self._parts.append(b"\x95" + struct.pack("<Q", self._frame_size))
        self._parts.extend(self._frame)
        self._frame.clear()
        self._frame_size = 0

    # -- what refers to the memo ------------------------------------------------------------------

    def memoize(self) -> tuple[bytes, bytes]:
        """Return the opcode that puts the stack's top into the memo and the one that gets it."""
        index = self.memo_size
        self.memo_size += 1
        get = recall(index)
        if self.protocol >= 4:
            return b"\x94", get
        return (b"q%c" % index if index < 256 else b"r" + struct.pack("<I", index)), get

    def text(self, value: str) -> bytes:
        """Opcodes that push a string."""
        known = self._texts.get(value)
        if known is not None:
            return known
        raw = value.encode("utf-8", "surrogatepass")
        put, self._texts[value] = self.memoize()
        if self.protocol >= 4 and len(raw) < 256:
            return b"\x8c%c%b%b" % (len(raw), raw, put)
        return b"X%b%b%b" % (struct.pack("<I", len(raw)), raw, put)

    def memo_index(self, value: str) -> int:
        """Place in the memo of a string that `text` was called with."""
        return int.from_bytes(self._texts[value][1:], "little")

    def named(self, path: str) -> bytes:
        """Opcodes that push the global `module.name`."""
        known = self._globals.get(path)
        if known is not None:
            return known
        module, _, name = path.rpartition(".")
        if not module or "\n" in path:
            raise Refused(f"{quote(path)} is no name of a class or function")
        if self.protocol >= 4:
            opcodes = self.text(module) + self.text(name) + b"\x93"
        else:
            # Protocol 2 spells builtins as Python 2 did.
            module = "__builtin__" if module == "builtins" else module
            opcodes = f"c{module}\n{name}\n".encode()
        put, self._globals[path] = self.memoize()
        return opcodes + put

    # -- values -----------------------------------------------------------------------------------

    def save(self, value: Any) -> None:
        """Append the opcodes of a value; errors as `dumps`."""
        kind = type(value)
        if value is None or kind is bool:
            self.write(_SINGLETONS[value])
        elif kind is int:
            self.write(integer(value))
        elif kind is float:
            self.write(b"G" + struct.pack(">d", value))
        elif kind is str:
            self.write(self.text(value))
        elif kind is tuple and not value:
            self.write(b")")
        elif id(value) in self._objects:
            self.write(self._objects[id(value)][0])
        else:
            self._nested(kind, value)

    def _nested(self, kind: type, value: Any) -> None:
        self._depth += 1
        # A tensor or an ordered dict is a few levels by itself.
        if self._depth > limits.PICKLE_DEPTH + 8:
            raise Refused(f"a value nested over {limits.PICKLE_DEPTH} levels deep")
        save = _SAVERS.get(kind)
        if save is not None:
            save(self, value)
        else:
            self._other(value)
        self._depth -= 1

    def _remember(self, value: object) -> None:
        put, get = self.memoize()
        self._objects[id(value)] = (get, value)
        self.write(put)

    def _other(self, value: object) -> None:
        if self._reduce is None:
            shown = (
                getattr(value, "type", None) or f"{type(value).__module__}.{type(value).__name__}"
            )
            raise Refused(f"an object of {quote(shown)} cannot be written")
        made = self._reduce(value)
        if isinstance(made, Call):
            self._call(made, value)
        else:
            self.save(made)

    def _tuple(self, value: tuple[Any, ...]) -> None:
        if len(value) > 3:
            self.write(b"(")
        for part in value:
            self.save(part)
        self.write(_TUPLES.get(len(value), b"t"))
        self._remember(value)

    def _list(self, value: list[Any]) -> None:
        self.write(b"]")
        self._remember(value)
        for first in range(0, len(value), BATCH):
            many = len(value) > 1
            if many:
                self.write(b"(")
            for part in value[first : first + BATCH]:
                self.save(part)
            self.write(b"e" if many else b"a")

    def _dict(self, value: dict[Any, Any]) -> None:
        self.write(b"}")
        self._remember(value)
        self._items(value, alone=len(value) == 1)

    def _items(self, value: dict[Any, Any], *, alone: bool) -> None:
        """Append the items of a dict that is on the stack; `alone` if its last one is no batch."""
        pairs = list(value.items())
        for first in range(0, len(pairs), BATCH):
            batch = pairs[first : first + BATCH]
            many = len(batch) > 1 or not alone
            if many:
                self.write(b"(")
            for key, part in batch:
                self.save(key)
                self.save(part)
            self.write(b"u" if many else b"s")

    def _ordered(self, value: OrderedDict[Any, Any]) -> None:
        self.write(self.named("collections.OrderedDict") + b")R")
        self._remember(value)
        self._items(value, alone=True)

    def _call(self, value: Call, original: object) -> None:
        self.write(self.named(value.path))
        self.save(value.args)
        self.write(b"R")
        self._remember(original)

    def _record(self, value: Record) -> None:
        self.write(self.named(value.type))
        self.save(value.args)
        self.write(b"\x81")
        self._remember(value)
        if value.fields:
            state = value.fields
            self.save(state.get("__state__", state))
            self.write(b"b")

    def _persistent(self, value: Persistent) -> None:
        self.save(value.id)
        self.write(b"Q")

    def _bytes(self, value: bytes) -> None:
        if self.protocol < 4:
            text = value.decode("latin-1")
            made = Call("_codecs.encode", (text, "latin1")) if value else Call("builtins.bytes", ())
            self._call(made, value)
            return
        size = len(value)
        self.write((b"C%c" % size if size < 256 else b"B" + struct.pack("<I", size)) + value)
        self._remember(value)

    def _bytearray(self, value: bytearray) -> None:
        self._call(Call("builtins.bytearray", (bytes(value),) if value else ()), value)

    def _deque(self, value: collections.deque[Any]) -> None:
        args = () if value.maxlen is None else ((), value.maxlen)
        self._call(Call("collections.deque", args), value)
        for part in value:
            self.save(part)
            self.write(b"a")

    def _standard(self, value: Any) -> None:
        """What its class is called with, as Python itself pickles it."""
        made = value.__reduce_ex__(2)
        if isinstance(made, str):
            self.write(self.named(f"builtins.{made}"))
        else:
            name = f"{type(value).__module__}.{type(value).__qualname__}"
            self._call(Call(name, made[1]), value)

    def _uuid(self, value: uuid.UUID) -> None:
        self.write(self.named("uuid.UUID") + b")\x81")
        self._remember(value)
        self.save({"int": value.int})
        self.write(b"b")

    def _set(self, value: set[Any] | frozenset[Any]) -> None:
        # The order of a set differs from one process to the next.
        members = sorted(value, key=lambda member: (type(member).__name__, repr(member)))
        self._call(Call(f"builtins.{type(value).__name__}", (members,)), value)


def integer(value: int) -> bytes:
    """Opcodes that push an integer."""
    if 0 <= value < 1 << 8:
        return b"K%c" % value
    if 0 <= value < 1 << 16:
        return b"M" + struct.pack("<H", value)
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    # As CPython, which drops the byte that only repeats the sign of a negative number.
    if value < 0 and len(raw) > 1 and raw[-1] == 0xFF and raw[-2] & 0x80:
        raw = raw[:-1]
    if len(raw) < 256:
        return b"\x8a%c%b" % (len(raw), raw)
    return b"\x8b%b%b" % (struct.pack("<i", len(raw)), raw)


def packed_tuple(parts: list[bytes]) -> bytes:
    """Opcodes that push a tuple of what `parts` push; nothing refers to it later."""
    if len(parts) <= 3:
        return b"".join(parts) + (_TUPLES[len(parts)] if parts else b")")
    return b"(" + b"".join(parts) + b"t"


def recall(index: int) -> bytes:
    """The opcode that pushes a memo entry."""
    return b"h%c" % index if index < 256 else b"j" + struct.pack("<I", index)


def _device(value: Device) -> Call:
    kind, _, index = value.name.partition(":")
    return Call("torch.device", (kind, int(index)) if index else (kind,))


_SAVERS: dict[type, Callable[[Emitter, Any], None]] = {
    tuple: Emitter._tuple,
    list: Emitter._list,
    dict: Emitter._dict,
    OrderedDict: Emitter._ordered,
    bytes: Emitter._bytes,
    bytearray: Emitter._bytearray,
    set: Emitter._set,
    frozenset: Emitter._set,
    complex: lambda to, value: to._call(Call("builtins.complex", (value.real, value.imag)), value),
    Record: Emitter._record,
    PlainValue: lambda to, value: to._call(Call(value.type, value.args), value),
    PathText: lambda to, value: to.save(str(value)),
    collections.deque: Emitter._deque,
    collections.Counter: lambda to, value: to._call(
        Call("collections.Counter", (dict(value),)), value
    ),
    **dict.fromkeys(standard.MADE, Emitter._standard),
    uuid.UUID: Emitter._uuid,
    Call: lambda to, value: to._call(value, value),
    GlobalRef: lambda to, value: to.write(to.named(value.path)),
    Persistent: Emitter._persistent,
    Size: lambda to, value: to._call(Call("torch.Size", (tuple(value),)), value),
    DType: lambda to, value: to.write(to.named(f"torch.{value.name}")),
    Device: lambda to, value: to._call(_device(value), value),
}
