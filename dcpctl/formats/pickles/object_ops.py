"""Opcodes of globals and objects; nothing is imported, called or constructed but stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dcpctl.errors import UnsafePickle, printable
from dcpctl.formats.pickles.imports import CALLED, MADE, is_class_name
from dcpctl.formats.pickles.opcodes import op
from dcpctl.formats.pickles.standins import Global, Opaque, Record

if TYPE_CHECKING:
    from dcpctl.formats.pickles.vm import Machine


# -- globals and objects ---------------------------------------------------------------------------


@op(b"c")
def _global(m: Machine) -> None:
    module = m.line().decode("utf-8")
    name = m.line().decode("utf-8")
    m.class_position = None
    m.stack.append(m.find(module, name))


@op(b"\x93")
def _stack_global(m: Machine) -> None:
    name = m.stack.pop()
    module = m.stack.pop()
    if type(name) is not str or type(module) is not str:
        m.fail("a global is named by other than strings")
    m.class_position = None
    m.stack.append(m.find(module, name))


@op(b"R")
def _reduce(m: Machine) -> None:
    args = m.stack.pop()
    m.stack[-1] = m.call(m.stack[-1], args)


def _new_object(m: Machine, cls: Any, args: Any) -> Any:
    if not isinstance(args, tuple):
        m.fail("arguments of a constructor are not a tuple")
    if isinstance(cls, Global) and cls.record:
        m.spend(2)
        if args and not m.policy.lenient:
            m.refuse_later(f"arguments for a new {cls.path}, which has none")
        if m.blocks is not None and cls.columnar:
            m.blocks.record_begins(cls.columnar, m.class_position)
        return Record(cls.path, {}, args)
    if isinstance(cls, Global) and cls.opaque:
        m.spend()
        m.use(cls.path, MADE)
        return Opaque(cls.path, args)
    if isinstance(cls, Global) and cls.call is not None and not is_class_name(cls.path):
        # Picklers call these, and some are functions.
        m.refuse_later(f"{cls.path} is made and not called")
    return m.call(cls, args)


def _reconstructor(m: Machine, args: Any) -> Any:
    """`copyreg._reconstructor(cls, base, state)`: `base.__new__(cls, state)`, then `__init__`."""
    cls, base, state = args
    if not isinstance(base, Global) or base.opaque:
        m.use(getattr(base, "path", getattr(base, "type", "copyreg._reconstructor")), CALLED)
    return _new_object(m, cls, () if state is None else (state,))


def _newobj_function(m: Machine, args: Any) -> Any:
    """`copyreg.__newobj__(cls, *args)` and `__newobj_ex__(cls, args, kwargs)`."""
    return _new_object(m, args[0], tuple(args[1:]))


def _getattr(m: Machine, args: Any) -> Any:
    """`getattr(cls, name)`: how Python 3.11 pickles a member of an enum.

    Anything else that it could fetch is a method or what an object holds, for the pickle to call.
    """
    target, name = args[:2]
    if isinstance(target, Global) and isinstance(name, str):
        known = m.policy.table.get(f"{target.path}.{name}")
        if known is not None:
            return known
        if target.opaque and is_class_name(target.path) and name.isidentifier() and name[0] != "_":
            return Opaque(target.path, (name,))
    m.use("builtins.getattr", CALLED)
    return Opaque("builtins.getattr", tuple(args))


PICKLES_OWN: dict[str, Callable[[Machine, Any], Any]] = {
    "copyreg._reconstructor": _reconstructor,
    "copyreg.__newobj__": _newobj_function,
    "copyreg.__newobj_ex__": _newobj_function,
    "builtins.getattr": _getattr,
}


@op(b"\x81")
def _newobj(m: Machine) -> None:
    args = m.stack.pop()
    m.stack[-1] = _new_object(m, m.stack[-1], args)


@op(b"\x92")
def _newobj_ex(m: Machine) -> None:
    keywords = m.stack.pop()
    args = m.stack.pop()
    if not isinstance(keywords, dict):
        m.fail("keyword arguments of a constructor are not a dict")
    if keywords and not m.policy.lenient:
        m.refuse_later("keyword arguments of a constructor")
    m.stack[-1] = _new_object(m, m.stack[-1], args)


@op(b"i")
def _inst(m: Machine) -> None:
    module = m.line().decode("utf-8")
    name = m.line().decode("utf-8")
    args = tuple(m.pop_mark())
    m.stack.append(_new_object(m, m.find(module, name), args))


@op(b"o")
def _obj(m: Machine) -> None:
    items = m.pop_mark()
    if not items:
        m.fail("an object without a class")
    m.stack.append(_new_object(m, items[0], tuple(items[1:])))


@op(b"b")
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
    try:
        m.stack.append(m.persistent(key))
    except ValueError as error:
        m.fail(f"a persistent id: {printable(error)}")


@op(b"P")
def _persid(m: Machine) -> None:
    _persistent(m, m.line().decode("ascii"))


@op(b"Q")
def _binpersid(m: Machine) -> None:
    _persistent(m, m.stack.pop())


def unknown(m: Machine) -> None:
    """An opcode that is no opcode, or one that refers to what is not in the stream."""
    opcode = m.data[m.pos - 1]
    if opcode in b"\x82\x83\x84\x97\x98":
        # EXT1, EXT2, EXT4 and the out-of-band buffers refer to what is not in the stream.
        raise UnsafePickle(
            f"{m.subject} uses pickle opcode 0x{opcode:02x} at byte {m.pos - 1}, "
            "which no DCP release writes; not loaded"
        )
    m.fail(f"unknown opcode 0x{opcode:02x}")
