"""Opcodes of containers, of the stack and of the memo."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from dcpctl.formats.pickles.opcodes import op
from dcpctl.formats.pickles.standins import Global, Opaque

if TYPE_CHECKING:
    from dcpctl.formats.pickles.vm import Machine


# -- containers ------------------------------------------------------------------------------------


@op(b"(")
def _mark(m: Machine) -> None:
    m.spend()
    m.marked.append(m.stack)
    m.stack = []


@op(b"]")
def _empty_list(m: Machine) -> None:
    m.spend()
    m.stack.append([])


@op(b"}")
def _empty_dict(m: Machine) -> None:
    m.spend()
    m.stack.append({})


@op(b"\x8f")
def _empty_set(m: Machine) -> None:
    m.spend(4)
    m.stack.append(set())


@op(b"t")
def _tuple(m: Machine) -> None:
    m.spend()
    items = m.pop_mark()
    m.stack.append(tuple(items))


@op(b"l")
def _list(m: Machine) -> None:
    m.spend()
    items = m.pop_mark()
    m.stack.append(items)


@op(b"d")
def _dict(m: Machine) -> None:
    m.spend()
    items = m.pop_mark()
    made: dict[Any, Any] = {}
    _set_items(m, made, items)
    m.stack.append(made)


@op(b"\x85")
def _tuple1(m: Machine) -> None:
    m.spend()
    m.stack[-1] = (m.stack[-1],)


@op(b"\x86")
def _tuple2(m: Machine) -> None:
    m.spend()
    last = m.stack.pop()
    m.stack[-1] = (m.stack[-1], last)


@op(b"\x87")
def _tuple3(m: Machine) -> None:
    m.spend()
    last = m.stack.pop()
    middle = m.stack.pop()
    m.stack[-1] = (m.stack[-1], middle, last)


@op(b"\x91")
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
    before = len(target)
    for index in range(0, len(items), 2):
        key = items[index]
        target[key if type(key) is str else m.check_key(key)] = items[index + 1]
    if len(target) != before + len(items) // 2:
        m.refuse_later("a dict key is set twice")


def _append_items(m: Machine, target: Any, items: list[Any]) -> None:
    if isinstance(target, (list, deque)):
        target.extend(items)
    elif not isinstance(target, Opaque):
        m.fail(f"items are appended to a {type(target).__name__}")


@op(b"s")
def _setitem(m: Machine) -> None:
    value = m.stack.pop()
    key = m.stack.pop()
    _set_items(m, m.stack[-1], [key, value])


@op(b"u")
def _setitems(m: Machine) -> None:
    items = m.pop_members()
    _set_items(m, m.stack[-1], items)


@op(b"a")
def _append(m: Machine) -> None:
    value = m.stack.pop()
    _append_items(m, m.stack[-1], [value])


@op(b"e")
def _appends(m: Machine) -> None:
    items = m.pop_members()
    _append_items(m, m.stack[-1], items)


@op(b"\x90")
def _additems(m: Machine) -> None:
    items = m.pop_mark()
    target = m.stack[-1]
    if isinstance(target, set):
        target.update(m.check_key(item) for item in items)
    elif not isinstance(target, Opaque):
        m.fail(f"items are added to a {type(target).__name__}")


# -- stack and memo --------------------------------------------------------------------------------


@op(b"0")
def _pop(m: Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.pop_mark()


@op(b"1")
def _pop_mark(m: Machine) -> None:
    m.pop_mark()


@op(b"2")
def _dup(m: Machine) -> None:
    m.spend()
    m.stack.append(m.stack[-1])


@op(b"\x94")
def _memoize(m: Machine) -> None:
    m.memo[m.memo_length] = m.stack[-1]
    m.memo_length += 1


def _put(m: Machine, index: int) -> None:
    if index < 0:
        m.fail("a negative memo index")
    if index != m.memo_length:
        # CPython's picklers number the memo in order, and never give a number again.
        m.refuse_later(f"memo entry {index} is put where {m.memo_length} is next")
    if index not in m.memo:
        m.memo_length += 1
    m.memo[index] = m.stack[-1]


@op(b"p")
def _put_text(m: Machine) -> None:
    _put(m, int(m.line()))


@op(b"q")
def _binput(m: Machine) -> None:
    _put(m, m.take(1)[0])


@op(b"r")
def _long_binput(m: Machine) -> None:
    _put(m, m.u32())


def _get(m: Machine, index: int, start: int) -> None:
    value = m.recall(index)
    m.stack.append(value)
    if type(value) is Global:
        m.class_position = start


@op(b"g")
def _get_text(m: Machine) -> None:
    start = m.pos - 1
    _get(m, int(m.line()), start)


@op(b"h")
def _binget(m: Machine) -> None:
    start = m.pos - 1
    if m.pos >= m.frame_end:
        m.pass_frame_end(m.pos, m.pos + 1)
    m.pos += 1
    _get(m, m.data[start + 1], start)


@op(b"j")
def _long_binget(m: Machine) -> None:
    start = m.pos - 1
    _get(m, m.u32(), start)
