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


@lru_cache(maxsize=2048)
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


def gentle(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A stream that most likely still decodes: other numbers and names, the same things otherwise.

    Names are changed wherever they stand; values are written out instead of taken from the memo,
    with other opcodes, put into the memo again, and in frames that end where an opcode ends.
    """
    ops = list(opcodes(data))
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        ops = rng.choice(_GENTLE)(ops, rng)
    head = data[:2]
    if head[1:2] < b"\4":
        return head + b"".join(ops)
    cuts = sorted({rng.randrange(len(ops) + 1) for _ in range(rng.choice((0, 0, 0, 1, 3)))})
    pieces = [b"".join(ops[a:b]) for a, b in zip([0, *cuts], [*cuts, len(ops)], strict=True)]
    return head + b"".join(_frame(piece) if len(piece) >= 4 else piece for piece in pieces)


def _near(ops: list[bytes], rng: random.Random) -> list[bytes]:
    places = [at for at, op in enumerate(ops) if op[:1] in (b"K", b"M", b"J")]
    if places:
        at = rng.choice(places)
        value = int.from_bytes(ops[at][1:], "little", signed=ops[at][:1] == b"J")
        how = rng.random()
        ops[at] = _number(
            value + rng.choice((-1, 1)) if how < 0.5
            else int.from_bytes(ops[rng.choice(places)][1:], "little") if how < 0.8
            else rng.choice((*_NUMBERS, value * 2))
        )  # fmt: skip
    return ops


def _wider(ops: list[bytes], rng: random.Random) -> list[bytes]:
    places = [at for at, op in enumerate(ops) if op[:1] in (b"K", b"M")]
    if places:
        at = rng.choice(places)
        value = int.from_bytes(ops[at][1:], "little")
        ops[at] = rng.choice((b"M" + struct.pack("<H", value), b"J" + struct.pack("<i", value)))
    return ops


def _strings(ops: list[bytes]) -> list[int]:
    return [at for at, op in enumerate(ops) if op[:1] in (b"X", b"\x8c")]


def _raw(op: bytes) -> bytes:
    return op[5:] if op[:1] == b"X" else op[2:]


def _written(raw: bytes, like: bytes) -> bytes:
    if like[:1] == b"X" or len(raw) > 255:
        return b"X" + struct.pack("<I", len(raw)) + raw
    return b"\x8c" + bytes([len(raw)]) + raw


def _renamed(ops: list[bytes], rng: random.Random) -> list[bytes]:
    places = _strings(ops)
    if not places:
        return ops
    old = _raw(ops[rng.choice(places)])
    how = rng.random()
    if how < 0.4:
        new = bytearray(old or b"x")
        new[rng.randrange(len(new))] = rng.choice(b"abcxyz019._/")
    elif how < 0.7:
        new = bytearray(_raw(ops[rng.choice(places)]))
    else:
        new = bytearray(rng.choice(_NAMES).encode("utf-8", "replace"))
    everywhere = rng.random() < 0.8
    for at in places if everywhere else [rng.choice(places)]:
        if _raw(ops[at]) == old or not everywhere:
            ops[at] = _written(bytes(new), ops[at])
    return ops


def _longer(ops: list[bytes], rng: random.Random) -> list[bytes]:
    places = _strings(ops)
    if places:
        at = rng.choice(places)
        ops[at] = b"X" + struct.pack("<I", len(_raw(ops[at]))) + _raw(ops[at])
    return ops


def _flag(ops: list[bytes], rng: random.Random) -> list[bytes]:
    places = [at for at, op in enumerate(ops) if op in (b"\x88", b"\x89")]
    if places:
        at = rng.choice(places)
        ops[at] = b"\x88" if ops[at] == b"\x89" else b"\x89"
    return ops


def _put(op: bytes) -> int | None:
    """The memo index of BINPUT and LONG_BINPUT; -1 for MEMOIZE, which counts."""
    if op == b"\x94":
        return -1
    return int.from_bytes(op[1:], "little") if op[:1] in (b"q", b"r") and len(op) > 1 else None


def _written_out(ops: list[bytes], rng: random.Random) -> list[bytes]:
    """Write a string again where the memo was asked for it."""
    held: dict[int, bytes] = {}
    count = 0
    gets = []
    for at, op in enumerate(ops):
        index = _put(op)
        if index is not None:
            held[count if index < 0 else index] = ops[at - 1]
            count += 1
        elif op[:1] in (b"h", b"j") and len(op) > 1:
            known = held.get(int.from_bytes(op[1:], "little"), b"")
            if known[:1] in (b"X", b"\x8c"):
                gets.append((at, known))
    if gets:
        at, known = rng.choice(gets)
        ops[at] = known
    return ops


def _memoized(ops: list[bytes], rng: random.Random) -> list[bytes]:
    """Put one thing more into the memo, or one less, and count the others again."""
    puts = [at for at, op in enumerate(ops) if op == b"\x94"]
    wanted = {int.from_bytes(op[1:], "little") for op in ops if op[:1] in (b"h", b"j") and op[1:]}
    if not puts:
        return ops
    number = rng.randrange(len(puts))
    if number not in wanted and rng.random() < 0.7:
        del ops[puts[number]]
        shift = -1
    else:
        ops[puts[number] : puts[number]] = [b"\x94"]
        shift = 1
    for at, op in enumerate(ops):
        if op[:1] in (b"h", b"j") and len(op) > 1:
            index = int.from_bytes(op[1:], "little")
            index += shift if index > number else 0
            ops[at] = b"h" + bytes([index]) if index < 256 else b"j" + struct.pack("<I", index)
    return ops


_GENTLE = (
    *(_near, _near, _near, _renamed, _renamed, _renamed, _wider, _longer, _flag),
    *(_written_out, _memoized),
)
