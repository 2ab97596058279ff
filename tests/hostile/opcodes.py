"""Pickle opcodes written by hand, and the hostile pickles that several files of cases share."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.hostile.draft import healthy
from tests.hostile.fake_torch import dumps
from tests.hostile.registry import canary

#: All by hand is protocol 2, whose opcodes say by themselves what they mean.
PROTO = b"\x80\x02"


def text(value: str) -> bytes:
    """BINUNICODE."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def name(path: str) -> bytes:
    """GLOBAL of `module:name`."""
    return b"c" + path.replace(":", "\n").encode() + b"\n"


def call(path: str, *args: bytes) -> bytes:
    """REDUCE of `module:name` on these arguments."""
    return name(path) + b"(" + b"".join(args) + b"tR"


def payload(directory: Path) -> bytes:
    """A call of `os.system` that creates the canary."""
    return call("os:system", text(f"touch {canary(directory)}"))


def doubled(levels: int, first: int = 0) -> bytes:
    """A list of the same list twice, and so on: 2^levels leaves; memo entries from `first` on."""
    out = b"K\x01q%c0" % first
    for n in range(first, first + levels):
        out += b"](h%ch%ceq%c0" % (n, n, n + 1)
    return out + b"h%c" % (first + levels)


def in_front(directory: Path, opcodes: bytes, *, pop: bool = True) -> None:
    """Write the healthy draft with `opcodes` run before its `.metadata`'s own."""
    draft = healthy()
    genuine = dumps(draft.metadata(), 2)
    draft.write(directory, metadata=PROTO + opcodes + (b"0" if pop else b"") + genuine[2:])


def instead(directory: Path, opcodes: bytes) -> None:
    """Write the healthy draft with `opcodes` as its whole `.metadata`."""
    healthy().write(directory, metadata=PROTO + opcodes + b".")


def with_field(directory: Path, opcodes: bytes) -> None:
    """Write the healthy draft with one more attribute of its Metadata: the value of `opcodes`."""
    draft = healthy()
    genuine = dumps(draft.metadata(), 2)
    extra = b"}" + text("mcore_data") + opcodes + b"sb"
    draft.write(directory, metadata=PROTO + genuine[2:-1] + extra + b".")
