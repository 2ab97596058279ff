"""The table of opcodes that the `*_ops` modules fill and the machine runs by."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcpctl.formats.pickles.vm import Machine

Op = Callable[["Machine"], None]
#: Opcode byte -> what it does.
OPS: dict[int, Op] = {}


class Stop(Exception):
    """The stream's own end."""


def op(char: bytes) -> Callable[[Op], Op]:
    """Register a function as an opcode."""

    def register(function: Op) -> Op:
        OPS[char[0]] = function
        return function

    return register
