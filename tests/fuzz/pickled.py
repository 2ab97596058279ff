"""Mutations of pickles opcode by opcode, framed again afterwards."""

from __future__ import annotations

import pickletools
import random
import struct
from functools import lru_cache

#: Opcodes that need no operand of their own, those that move the stack twice as often.
_BARE = (
    b"()]}.NtRbaesulo012\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94"
    + b"012teusabR\x81\x86\x94" * 2
)
_NAMES = (
    *("float32", "float64", "bfloat16", "int64", "float8_e4m3fn", "strided", "torch.strided"),
    *("torch.jagged", "torch", "torch.distributed.checkpoint.metadata", "Metadata", "Size"),
    *("MetadataIndex", "ChunkStorageMetadata", "_StorageInfo", "offset", "offsets", "sizes", "fqn"),
    *(
        "index",
        "length",
        "relative_path",
        "os",
        "system",
        "posix",
        "builtins",
        "eval",
        "__0_0.distcp",
    ),
    *("collections", "OrderedDict", "storage", "FloatStorage", "UntypedStorage", "torch.storage"),
    *("cpu", "cuda:0", "meta", "0", "1", "chunks", "size", "properties", "storage_data", "\ud800"),
)
_NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    24,
    64,
    255,
    256,
    65535,
    65536,
    -1,
    (1 << 31) - 1,
    1 << 31,
    1 << 62,
    1 << 63,
)


@lru_cache(maxsize=512)
def opcodes(data: bytes) -> tuple[bytes, ...]:
    """The opcodes of a stream with their operands, without PROTO and frames."""
    found = []
    starts = [(op.name, at) for op, _, at in pickletools.genops(data)]
    ends = [at for _, at in starts[1:]] + [starts[-1][1] + 1]
    for (name, start), end in zip(starts, ends, strict=True):
        if name not in ("PROTO", "FRAME"):
            found.append(data[start:end])
    return tuple(found)


def framed(protocol: int, ops: list[bytes], rng: random.Random) -> bytes:
    """Join opcodes to a stream; protocol 4 and later in frames that are mostly right."""
    head = b"\x80" + bytes([protocol])
    body = b"".join(ops)
    how = rng.random()
    if protocol < 4 or how < 0.1:
        return head + body
    if how < 0.6:
        return head + _frame(body)
    if how < 0.8:
        # Frames that end where an opcode ends.
        cuts = sorted({rng.randrange(len(ops) + 1) for _ in range(rng.choice((1, 2, 5)))})
        pieces = [b"".join(ops[a:b]) for a, b in zip([0, *cuts], [*cuts, len(ops)], strict=True)]
    else:
        places = sorted({rng.randrange(len(body) + 1) for _ in range(rng.choice((1, 2)))})
        pieces = [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]
    out = [piece if rng.random() < 0.1 else _frame(piece) for piece in pieces]
    if rng.random() < 0.1:
        number = rng.randrange(len(out))
        out[number] = (
            out[number][:1] + struct.pack("<Q", rng.choice((0, 1, 9, 1 << 20))) + out[number][9:]
        )
    return head + b"".join(out)


def _frame(piece: bytes) -> bytes:
    return b"\x95" + struct.pack("<Q", len(piece)) + piece


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def _short(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")[:255]
    return b"\x8c" + bytes([len(raw)]) + raw


def _number(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if 0 <= value < 65536:
        return b"M" + struct.pack("<H", value)
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def _get(rng: random.Random, count: int) -> bytes:
    index = rng.randrange(max(count, 1))
    return b"h" + bytes([index]) if index < 256 else b"j" + struct.pack("<I", index)


def _made(rng: random.Random, ops: list[bytes]) -> bytes:
    """Some opcode."""
    how = rng.random()
    if how < 0.4:
        return bytes([rng.choice(_BARE)])
    if how < 0.6:
        return _get(rng, sum(op[:1] in b"\x94qr" for op in ops) + 1)
    if how < 0.7:
        return _number(rng.choice(_NUMBERS))
    if how < 0.8:
        return rng.choice((_text, _short))(rng.choice(_NAMES))
    if how < 0.85:
        index = rng.randrange(300)
        return (
            b"q" + bytes([index % 256]) if rng.random() < 0.7 else b"r" + struct.pack("<I", index)
        )
    if how < 0.9:
        module, name = rng.choice(_NAMES), rng.choice(_NAMES)
        return b"c" + f"{module}\n{name}\n".encode("utf-8", "replace")
    return rng.choice(ops)


def _changed(op: bytes, rng: random.Random) -> bytes:
    """The same opcode with another operand, or a neighbour of it."""
    code = op[:1]
    if code in (b"K", b"M", b"J", b"\x8a"):
        return _number(rng.choice(_NUMBERS))
    if code in (b"h", b"j", b"q", b"r") and len(op) > 1:
        index = int.from_bytes(op[1:], "little") + rng.choice((-2, -1, 1, 2, 7))
        if code in (b"h", b"q"):
            return code + bytes([index % 256])
        return code + struct.pack("<I", max(index, 0) % (1 << 32))
    if code in (b"X", b"\x8c"):
        return rng.choice((_text, _short))(rng.choice(_NAMES))
    if len(op) == 1:
        return bytes([rng.choice(_BARE)])
    spoilt = bytearray(op)
    spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A stream with a few opcodes put in, taken out, swapped, repeated or changed."""
    ops = list(opcodes(data))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at = rng.randrange(len(ops))
        length = rng.choice((1, 1, 1, 2, 3, 8, 30))
        how = rng.random()
        if how < 0.25:
            ops[at:at] = [_made(rng, ops) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        elif how < 0.4:
            del ops[at : at + length]
        elif how < 0.5:
            to = rng.randrange(len(ops))
            ops[at], ops[to] = ops[to], ops[at]
        elif how < 0.6:
            ops[at:at] = ops[at : at + length]
        elif how < 0.7:
            to = rng.randrange(len(ops))
            ops[to:to] = ops[at : at + length]
        elif how < 0.78:
            theirs = opcodes(other)
            start = rng.randrange(len(theirs))
            ops[at:at] = theirs[start : start + length]
        else:
            ops[at] = _changed(ops[at], rng)
        if not ops:
            ops = [b"."]
    protocol = data[1] if rng.random() < 0.95 else rng.randrange(7)
    return framed(protocol, ops, rng)
