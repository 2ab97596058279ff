"""The table of opcodes that the `*_ops` modules fill and the machine runs by.

One table serves every stream. Which of its opcodes a stream may hold depends on its protocol:
CPython's picklers (`Modules/_pickle.c`, `Lib/pickle.py`), which wrote every file of torch, use some
at one protocol and others at the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcpctl.formats.pickles.vm import Machine

Op = Callable[["Machine"], None]
#: Opcode byte -> what it does.
OPS: dict[int, Op] = {}

_PROTOCOL_2 = b".\x80(NJKM\x88\x89\x8a\x8bGX])}t\x85\x86\x87aesuhjqrcR\x81bQ01"
_PROTOCOL_3 = _PROTOCOL_2 + b"CB"
# Classes go by STACK_GLOBAL and the memo by MEMOIZE from protocol 4 on.
_PROTOCOL_4 = bytes(set(_PROTOCOL_3) - set(b"cqr")) + b"\x95\x94\x93\x92\x8c\x8d\x8e\x8f\x90\x91"
#: Protocol -> the opcodes that CPython's picklers write at it.
WRITTEN: dict[int, frozenset[int]] = {
    2: frozenset(_PROTOCOL_2),
    3: frozenset(_PROTOCOL_3),
    4: frozenset(_PROTOCOL_4),
    5: frozenset(_PROTOCOL_4 + b"\x96"),
}


class Stop(Exception):
    """The stream's own end."""


def op(char: bytes) -> Callable[[Op], Op]:
    """Register a function as an opcode."""

    def register(function: Op) -> Op:
        OPS[char[0]] = function
        return function

    return register
