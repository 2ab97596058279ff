"""Mutations of bytes that keep pickles, archives and headers half alive."""

from __future__ import annotations

import random
from collections.abc import Callable

#: Numbers at which formats break.
_EDGES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
_OPCODES = bytes(range(256))
_GETS = b"hjgqrp\x94"


def _flip(data: bytearray, rng: random.Random, other: bytes) -> None:
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, rng: random.Random, other: bytes) -> None:
    data[rng.randrange(len(data))] = rng.choice(_OPCODES)


def _opcode(data: bytearray, rng: random.Random, other: bytes) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = bytes([rng.choice(_OPCODES)])


def _memo(data: bytearray, rng: random.Random, other: bytes) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = bytes([rng.choice(_GETS), rng.randrange(256)])


def _remove(data: bytearray, rng: random.Random, other: bytes) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 1, 2, 4, 8, 64, 1024))]


def _repeat(data: bytearray, rng: random.Random, other: bytes) -> None:
    at = rng.randrange(len(data))
    piece = data[at : at + rng.choice((1, 2, 8, 64, 512))]
    data[at:at] = piece * rng.choice((1, 2, 50))


def _move(data: bytearray, rng: random.Random, other: bytes) -> None:
    length = rng.choice((1, 2, 5, 9, 60, 300))
    at, to = rng.randrange(len(data)), rng.randrange(len(data))
    data[to : to + length] = data[at : at + length]


def _number(data: bytearray, rng: random.Random, other: bytes) -> None:
    width = rng.choice((1, 2, 4, 8))
    at = rng.randrange(len(data))
    value = rng.choice(_EDGES) % (1 << 8 * width)
    data[at : at + width] = value.to_bytes(width, "little")


def _splice(data: bytearray, rng: random.Random, other: bytes) -> None:
    at, start = rng.randrange(len(data)), rng.randrange(len(other))
    data[at:] = other[start:]


def _insert(data: bytearray, rng: random.Random, other: bytes) -> None:
    at, start = rng.randrange(len(data)), rng.randrange(len(other))
    data[at:at] = other[start : start + rng.choice((4, 40, 400))]


def _cut(data: bytearray, rng: random.Random, other: bytes) -> None:
    del data[rng.randrange(len(data)) :]


_MUTATIONS: tuple[Callable[[bytearray, random.Random, bytes], None], ...] = (
    *(_flip, _byte, _opcode, _memo, _remove, _repeat, _move, _number, _splice, _insert, _cut),
)


def mutated(inputs: list[bytes], rng: random.Random) -> bytes:
    """One input after a few random mutations."""
    data = bytearray(rng.choice(inputs))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        if data:
            rng.choice(_MUTATIONS)(data, rng, rng.choice(inputs) or b".")
    return bytes(data)
