"""Opcodes of the stream itself, of numbers and of strings."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from dcpctl import limits
from dcpctl.errors import LimitExceeded
from dcpctl.formats.pickles.opcodes import Stop, op

if TYPE_CHECKING:
    from dcpctl.formats.pickles.vm import Machine

#: Most characters of an integer in text: a byte takes 2.41 digits.
_MAX_DIGITS = 5 * limits.PICKLE_INT_BYTES // 2


def _constant(char: bytes, value: Any) -> None:
    @op(char)
    def push(m: Machine) -> None:
        m.stack.append(value)


for _char, _value in ((b"N", None), (b"\x88", True), (b"\x89", False), (b")", ())):
    _constant(_char, _value)


# -- stream ----------------------------------------------------------------------------------------


@op(b"\x80")
def _proto(m: Machine) -> None:
    start = m.pos - 1
    protocol = m.take(1)[0]
    if protocol > 5:
        m.fail(f"protocol {protocol} is unknown")
    if start:
        m.refuse_later("a second PROTO")


@op(b"\x95")
def _frame(m: Machine) -> None:
    start = m.pos - 1
    length = m.u64()
    if length > len(m.data) - m.pos:
        m.fail_short("a frame is longer than the stream")
    m.begin_frame(start, m.pos + length)


@op(b".")
def _stop(m: Machine) -> None:
    raise Stop


# -- scalars ---------------------------------------------------------------------------------------


@op(b"K")
def _binint1(m: Machine) -> None:
    if m.pos >= m.frame_end:
        m.pass_frame_end(m.pos, m.pos + 1)
    m.stack.append(m.data[m.pos])
    m.pos += 1


@op(b"M")
def _binint2(m: Machine) -> None:
    m.stack.append(int.from_bytes(m.take(2), "little"))


@op(b"J")
def _binint(m: Machine) -> None:
    m.stack.append(int.from_bytes(m.take(4), "little", signed=True))


def _long(m: Machine, length: int) -> None:
    if length > limits.PICKLE_INT_BYTES:
        raise LimitExceeded(f"{m.subject}: an integer of {length} bytes in a pickle")
    m.stack.append(int.from_bytes(m.take(length), "little", signed=True))


@op(b"\x8a")
def _long1(m: Machine) -> None:
    _long(m, m.take(1)[0])


@op(b"\x8b")
def _long4(m: Machine) -> None:
    _long(m, m.u32())


@op(b"I")
def _int(m: Machine) -> None:
    text = m.line()
    if len(text) > _MAX_DIGITS:
        raise LimitExceeded(f"{m.subject}: an integer of {len(text)} digits in a pickle")
    # Protocol 0 has no opcode for a bool; it writes these two spellings instead.
    m.stack.append(text == b"01" if text in (b"00", b"01") else int(text))


@op(b"L")
def _long_text(m: Machine) -> None:
    text = m.line().rstrip(b"L")
    if len(text) > _MAX_DIGITS:
        raise LimitExceeded(f"{m.subject}: an integer of {len(text)} digits in a pickle")
    m.stack.append(int(text))


@op(b"F")
def _float_text(m: Machine) -> None:
    m.stack.append(float(m.line()))


@op(b"G")
def _binfloat(m: Machine) -> None:
    m.stack.append(struct.unpack(">d", m.take(8))[0])


# -- strings ---------------------------------------------------------------------------------------


@op(b"\x8c")
def _short_binunicode(m: Machine) -> None:
    m.stack.append(m.take(m.take(1)[0]).decode("utf-8", "surrogatepass"))


@op(b"X")
def _binunicode(m: Machine) -> None:
    m.stack.append(m.take(m.u32()).decode("utf-8", "surrogatepass"))


@op(b"\x8d")
def _binunicode8(m: Machine) -> None:
    m.stack.append(m.take(m.u64()).decode("utf-8", "surrogatepass"))


@op(b"V")
def _unicode_text(m: Machine) -> None:
    m.stack.append(m.line().decode("raw-unicode-escape"))


@op(b"S")
def _string_text(m: Machine) -> None:
    text = m.line()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        m.fail("a string operand has no quotes")
    m.stack.append(text[1:-1].decode("unicode-escape"))


@op(b"U")
def _short_binstring(m: Machine) -> None:
    m.stack.append(m.take(m.take(1)[0]).decode("latin-1"))


@op(b"T")
def _binstring(m: Machine) -> None:
    m.stack.append(m.take(m.u32()).decode("latin-1"))


@op(b"C")
def _short_binbytes(m: Machine) -> None:
    m.stack.append(m.take(m.take(1)[0]))


@op(b"B")
def _binbytes(m: Machine) -> None:
    m.stack.append(m.take(m.u32()))


@op(b"\x8e")
def _binbytes8(m: Machine) -> None:
    m.stack.append(m.take(m.u64()))


@op(b"\x96")
def _bytearray8(m: Machine) -> None:
    m.stack.append(bytearray(m.take(m.u64())))
