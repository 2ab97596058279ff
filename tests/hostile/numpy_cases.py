"""NumPy arrays in bytes entries: NumPy believes their pickles, down to memory of others."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.hostile.draft import healthy, value_item
from tests.hostile.opcodes import call, name, text
from tests.hostile.registry import case

_MINUS = b"J\xff\xff\xff\xff"
_PLAIN = (b"N", b"N", b"N", _MINUS, _MINUS, b"K\x00")


def _number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def dtype(code: str, *state: bytes, order: str = "<") -> bytes:
    """`numpy.dtype` with the six fields of its state that follow the byte order."""
    made = call("numpy:dtype", text(code), b"\x89", b"\x88")
    return made + b"(K\x03" + text(order) + b"".join(state or _PLAIN) + b"tb"


def raw(data: bytes) -> bytes:
    return call("_codecs:encode", text(data.decode("latin1")), text("latin1"))


def array(shape: bytes, of: bytes, data: bytes) -> bytes:
    """An `ndarray` with this state."""
    made = call(
        "numpy._core.multiarray:_reconstruct", name("numpy:ndarray"), b"K\x00\x85", text("b")
    )
    return made + b"(K\x01" + shape + of + b"\x89" + data + b"tb"


def _case(label: str, opcodes: bytes) -> None:
    def write(directory: Path) -> None:
        draft = healthy()
        draft.replace_item("step", value_item(b"\x80\x02" + opcodes + b"."))
        draft.write(directory)

    write.__name__ = f"array_{label}"
    case(reads="malformed-pickle", finding="DCP305")(write)


ONE, EIGHT = b"K\x01\x85", raw(b"12345678")
OBJECTS = (b"N", b"N", b"N", _MINUS, _MINUS, b"K?")
_case("of_objects_that_are_not_there", array(ONE, dtype("O8", *OBJECTS, order="|"), b"]"))
_case("of_objects_that_are_bytes", array(ONE, dtype("O8", *OBJECTS, order="|"), EIGHT))
_case("of_numbers_that_are_objects", array(ONE, dtype("f8", *OBJECTS), b"]Na"))
_case("of_objects_that_are_numbers", array(ONE, dtype("O8", order="|"), EIGHT))
_case("of_a_negative_size", array(_MINUS + b"\x85", dtype("f8"), EIGHT))
_case("of_a_size_that_is_true", array(b"\x88\x85", dtype("f8"), EIGHT))
_case(
    "with_a_field_outside",
    array(
        ONE,
        dtype(
            "V8", b"N", text("a") + b"\x85",
            b"}" + text("a") + dtype("f8") + _number(1 << 20) + b"\x86s",
            b"K\x08", b"K\x01", b"K\x00", order="|",
        ),
        EIGHT,
    ),
)  # fmt: skip
_case(
    "with_a_field_of_objects_in_bytes",
    array(
        ONE,
        dtype(
            "V8", b"N", text("a") + b"\x85",
            b"}" + text("a") + dtype("O8", *OBJECTS, order="|") + b"K\x00\x86s",
            b"K\x08", b"K\x01", b"K\x00", order="|",
        ),
        EIGHT,
    ),
)  # fmt: skip
_case(
    "of_numbers_that_are_arrays",
    array(
        ONE,
        dtype("f8", dtype("i4") + b"K\x02\x85\x86", b"N", b"N", _MINUS, _MINUS, b"K\x00"),
        EIGHT,
    ),
)
_case(
    "of_numbers_with_fields",
    array(
        ONE,
        dtype("f8", b"N", text("a") + b"\x85", b"}" + text("a") + dtype("i4") + b"K\x04\x86s",
              _MINUS, _MINUS, b"K\x00"),
        EIGHT,
    ),
)  # fmt: skip
_case(
    "of_text_of_no_size",
    array(ONE, dtype("U2", b"N", b"N", b"N", b"K\x40", b"K\x04", b"K\x08"), EIGHT),
)
_case(
    "scalar_larger_than_its_bytes",
    call("numpy._core.multiarray:scalar", dtype("f8"), raw(b"1234")),
)
_case(
    "scalar_of_objects",
    call("numpy._core.multiarray:scalar", dtype("O8", *OBJECTS, order="|"), EIGHT),
)
