"""Hostile texts of each form that people and runs hand over, by a small grammar a form.

A form is an example that is one and the places in it where anything may stand. A case is a text
and whether it has to be refused; new ones are a line in the table of their syntax.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Bomb = Callable[[], bytes]
#: Deeper than Python's own stack, and deeper than anything that walks a document need go.
DEEP, TALL = 100_000, 400
HUGE = 20 << 20


@dataclass(frozen=True)
class Hostile:
    """One hostile file.

    Attributes:
        name: of the case.
        make: its bytes.
        refused: it has to end in an error; else it may also be read.
    """

    name: str
    make: Bomb
    refused: bool = True


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def json_values() -> Iterator[tuple[str, Callable[[], str]]]:
    """What may stand where a value is expected, as JSON text."""
    yield "lists in lists", lambda: "[" * DEEP + "]" * DEEP
    yield "objects in objects", lambda: '{"a":' * DEEP + "1" + "}" * DEEP
    yield "a tower", lambda: "[" * TALL + "]" * TALL
    yield "a tower of objects", lambda: '{"kind":' * TALL + "1" + "}" * TALL
    yield "an open tower", lambda: "[" * DEEP
    yield "an integer of 4,000 digits", lambda: "9" * 4_000
    yield "an integer of a million digits", lambda: "9" * 1_000_000
    yield "a float of a million digits", lambda: "0." + "9" * 1_000_000
    yield "infinity", lambda: "1e999"
    yield "a large exponent", lambda: "1e-999999999"
    yield "NaN", lambda: "NaN"
    yield "a text of 20 MiB", lambda: '"' + "x" * HUGE + '"'
    yield "a text of escapes", lambda: '"' + "\\u0041" * 1_000_000 + '"'
    yield "half a surrogate", lambda: '"\\ud800"'
    yield "a NUL", lambda: '"\\u0000"'
    yield "control characters", lambda: '"\\u001b[31m\\u202e##[add-mask]x"'
    yield "two million lists", lambda: "[" + "[]," * 2_000_000 + "[]]"
    yield "a million numbers", lambda: "[" + "1," * 1_000_000 + "1]"
    yield "many keys", lambda: "{" + ",".join(f'"k{n}":1' for n in range(300_000)) + "}"
    yield "a key twice", lambda: '{"a":1,"a":2}'
    yield (
        "keys that collide",
        lambda: "{" + ",".join(f'"{n * (2**61 - 1)}":1' for n in range(9_999)) + "}",
    )
    yield "a list of objects", lambda: "[" + '{"key":"a"},' * 200_000 + "{}]"
    yield "true", lambda: "true"
    yield "null", lambda: "null"


def json_texts(example: dict[str, Any], places: tuple[str, ...]) -> Iterator[Hostile]:
    """Documents of one form: each value in each place, and what is wrong with the text as such."""
    whole = json.dumps(example)
    for name, make in json_values():
        # The place goes round, so that each value and each place is had; mutants pair the rest.
        place = places[len(name) % len(places)]
        rest = {key: value for key, value in example.items() if key != place}
        before = json.dumps(rest)[:-1] + (", " if rest else "")
        yield Hostile(
            f"{place} is {name}",
            lambda before=before, place=place, make=make: _text(
                f"{before}{json.dumps(place)}: {make()}}}"
            ),
            refused=False,
        )
    yield from _bytes_of(whole)
    yield Hostile("a list", lambda: _text(f"[{whole}]"))
    if "schema" in example:
        yield Hostile("another schema", lambda: _text(whole.replace("dcpctl.", "other.")))
    yield Hostile("a key twice", lambda: _text(f"{whole[:-1]}, {whole[1:]}"))
    yield Hostile("an open tower", lambda: b'{"a":' * DEEP)
    yield Hostile("two million keys", lambda: b'{"a":1,' * 2_000_000)
    yield Hostile("a text without an end", lambda: b'{"' + b"x" * HUGE)
    yield Hostile("blanks", lambda: b" " * HUGE)


def _bytes_of(whole: str) -> Iterator[Hostile]:
    """What is wrong with a text whatever its form."""
    data = whole.encode()
    yield Hostile("nothing", lambda: b"")
    yield Hostile("half", lambda: data[: len(data) // 2 - 1])
    yield Hostile("a byte order mark", lambda: b"\xef\xbb\xbf" + data, refused=False)
    yield Hostile("UTF-16", lambda: whole.encode("utf-16"))
    yield Hostile("no UTF-8", lambda: data[:-3] + b"\xff" + data[-3:])
    yield Hostile("half a surrogate", lambda: data[:-3] + b"\xed\xa0\x80" + data[-3:])
    yield Hostile("NUL bytes", lambda: data[:3] + b"\0" + data[3:])
    yield Hostile("only NUL bytes", lambda: bytes(1 << 20))
    yield Hostile("a pickle", lambda: b"\x80\x02cposix\nsystem\nX\x02\0\0\0id\x85R.")
    yield Hostile("noise", lambda: random.Random(1).randbytes(1 << 16))


def toml_texts(example: str, place: str) -> Iterator[Hostile]:
    """Documents of one form.

    Args:
        example: one that is read.
        place: a key that may stand behind it, and anything be its value.
    """
    values: dict[str, Callable[[], str]] = {
        "lists in lists": lambda: "[" * DEEP + "]" * DEEP,
        "tables in tables": lambda: "{a=" * DEEP + "1" + "}" * DEEP,
        "a tower": lambda: "[" * TALL + "]" * TALL,
        "an open tower": lambda: "{a=" * DEEP,
        "dots in a table": lambda: "{" + "a." * 400_000 + "b = 1}",
        "a table of many": lambda: "{" + ",".join(f"a{n}={n}" for n in range(60_000)) + "}",
        "an integer of a million digits": lambda: "9" * 900_000,
        "a hexadecimal integer": lambda: "0x" + "f" * 900_000,
        "infinity": lambda: "inf",
        "a date": lambda: "1979-05-27T07:32:00.999999-07:00",
        "a date that is none": lambda: "9999-99-99",
        "a text of a megabyte": lambda: '"' + "x" * 1_000_000 + '"',
        "a text of escapes": lambda: '"' + "\\u0041" * 150_000 + '"',
        "a text without an end": lambda: '"""' + '\\"""' * 200_000,
        "half a surrogate": lambda: '"\\ud800"',
        "a NUL": lambda: '"\\u0000"',
        "control characters": lambda: '"\\u001b[31m\\u202e##[add-mask]x"',
        "many numbers": lambda: "[" + "1," * 490_000 + "]",
        "many tables": lambda: "[" + "{a=1}," * 160_000 + "]",
        "true": lambda: "true",
    }
    for name, make in values.items():
        yield Hostile(
            f"{place} is {name}",
            lambda make=make: _text(f"{example}\n{place} = {make()}\n"),
            refused=False,
        )
    texts: dict[str, Callable[[], str]] = {
        "a key of a megabyte of dots": lambda: "a." * 490_000 + "b = 1",
        "a header of dots": lambda: f"[{'a.' * 490_000}b]",
        "a header of dots that is open": lambda: "[" + "a . " * 200_000,
        "quoted dots": lambda: '"a".' * 240_000 + "b = 1",
        "headers": lambda: "".join(f"[a{n}]\n" for n in range(90_000)),
        "arrays of tables": lambda: "[[edits]]\n" * 90_000,
        "a key without an end": lambda: "a" * 1_000_000,
        "quotes": lambda: "'\"" * 500_000,
        "brackets": lambda: "[" * 1_000_000,
        "keys in many tables": lambda: "".join(
            f"{'.'.join('abcdefgh')}{n} = 1\n" for n in range(50_000)
        ),
        "a key twice": lambda: "a = 1\na = 2\n",
    }
    for name, make in texts.items():
        yield Hostile(name, lambda make=make: _text(make()))
    for one in _bytes_of(example):
        if one.name == "half" or (one.name == "nothing" and not place.startswith("keys")):
            yield Hostile(one.name, one.make, refused=False)
        else:
            yield one


def map_texts() -> Iterator[Hostile]:
    """Maps of names that have a line a name."""
    yield Hostile("many names", lambda: b"".join(b"a%d b%d\n" % (n, n) for n in range(600_000)))
    yield Hostile("empty lines", lambda: b"\n" * HUGE)
    yield Hostile("a line of blanks", lambda: b" " * HUGE)
    yield Hostile("a line of words", lambda: b"a " * (HUGE // 2))
    yield Hostile("one word", lambda: b"a" * HUGE)
    yield Hostile("a name twice", lambda: b"a b\na c\n")
    yield Hostile("a cycle", lambda: b"model b\nb model\n", refused=False)
    yield Hostile("control characters", lambda: "model \x1b[31m\u202e\n".encode(), refused=False)
    yield Hostile("dots", lambda: b"model " + b"." * 60_000 + b"\n", refused=False)
    yield Hostile("paths", lambda: b"model ../../etc\n", refused=False)
    for one in _bytes_of("model net\n" * 3):
        yield one if one.name != "NUL bytes" else Hostile(one.name, one.make, refused=False)


def log_texts() -> Iterator[Hostile]:
    """Training logs in all the forms that have a text."""
    row = '{"step": 1, "loss": 2.5, "x": '
    for name, make in json_values():
        yield Hostile(
            f"JSON lines with {name}", lambda make=make: _text(f"{row}{make()}}}\n" * 2), False
        )
        yield Hostile(
            f"a document with {name}", lambda make=make: _text(f"[{row}{make()}}}]"), False
        )
    for name, value in (
        ("huge", "9" * 4_000),
        ("infinite", "1e999"),
        ("NaN", "NaN"),
        ("-0", "-0.0"),
    ):
        text = "".join(f'{{"step": {value}, "loss": {value}, "lr": {value}}}\n' for _ in range(50))
        yield Hostile(f"JSON lines of {name} numbers", lambda text=text: _text(text), False)
    yield Hostile(
        "many columns",
        lambda: _text(",".join(f"c{n}" for n in range(200_000)) + "\n" + "1," * 199_999 + "1\n"),
        False,
    )
    yield Hostile("a quote without an end", lambda: b'step,loss\n1,"' + b"x\n" * 2_000_000, False)
    yield Hostile("a cell without an end", lambda: b"step,loss\n1," + b"2" * HUGE, False)
    yield Hostile("one line", lambda: b"loss: 1.5 " * (HUGE // 10), False)
    yield Hostile(
        "columns of pandas",
        lambda: _text(json.dumps({"step": {str(n): n for n in range(50_000)}, "loss": {"0": 1.5}})),
        False,
    )
    yield Hostile(
        "many columns of pandas",
        lambda: _text(
            json.dumps(
                {f"c{n}": {"0": 1} for n in range(2_000)}
                | {"c": {str(n): 1 for n in range(20_000)}}
            )
        ),
        False,
    )
    yield Hostile(
        "columns and data",
        lambda: _text(json.dumps({"columns": list(range(20_000)), "data": [[1] * 50] * 2_000})),
        False,
    )
    yield Hostile(
        "a column of lists",
        lambda: _text(json.dumps({f"c{n}": [1, 2] for n in range(100_000)})),
        False,
    )
    yield Hostile(
        "many lists of rows",
        lambda: _text(json.dumps({f"c{n}": [{}] for n in range(100_000)})),
        False,
    )
    yield Hostile(
        "steps that go back",
        lambda: b"".join(b'{"step": %d, "loss": 1.5}\n' % (99_999 - n) for n in range(100_000)),
        False,
    )
    yield Hostile(
        "epochs that go back",
        lambda: b"".join(b'{"epoch": %d, "loss": 1.5}\n' % (n % 2) for n in range(100_000)),
        False,
    )
    for one in _bytes_of("step,loss\n1,2.5\n2,2.4\n"):
        yield Hostile(one.name, one.make, False)


def varint(number: int) -> bytes:
    """A protobuf varint."""
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


def field(number: int, data: bytes | int | float) -> bytes:
    """A protobuf field: bytes, a varint, or a float of 64 bits."""
    if isinstance(data, bytes):
        return varint(number << 3 | 2) + varint(len(data)) + data
    if isinstance(data, float):
        return varint(number << 3 | 1) + struct.pack("<d", data)
    return varint(number << 3) + varint(data)


def crc32c(data: bytes) -> int:
    """CRC-32C, masked as TFRecord files have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(data: bytes, length: int | None = None, crc: int | None = None) -> bytes:
    """A record of an event file, which may lie about its length or its checksum."""
    head = struct.pack("<Q", len(data) if length is None else length)
    sums = crc32c(head), crc32c(data) if crc is None else crc
    return head + struct.pack("<I", sums[0]) + data + struct.pack("<I", sums[1])


def event(step: int, *values: bytes) -> bytes:
    """An `Event` with a summary."""
    return field(1, 1.7e9) + field(2, step) + field(5, b"".join(field(1, one) for one in values))


def scalar(tag: str, value: float) -> bytes:
    """A `Summary.Value` with a `simple_value`."""
    return field(1, tag.encode()) + varint(2 << 3 | 5) + struct.pack("<f", value)


def tensor(tag: str, dims: list[int], content: bytes = field(5, struct.pack("<f", 1.5))) -> bytes:
    """A `Summary.Value` with a float32 tensor whose shape may be anything."""
    shape = b"".join(field(2, field(1, dim)) for dim in dims)
    return field(1, tag.encode()) + field(8, field(1, 1) + field(2, shape) + content)


_VERSION = field(1, 1.7e9) + field(3, b"brain.Event:2")


def events(*bodies: bytes) -> bytes:
    """An event file."""
    return b"".join(map(record, (_VERSION, *bodies)))


def _nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = field(5, field(1, data)) if len(data) < 1 << 19 else data
    return data


def event_texts() -> Iterator[Hostile]:
    """Event files of TensorBoard."""
    good = events(*(event(step, scalar("loss", 2.5 - step / 100)) for step in range(80)))
    huge = 1 << 40
    cases: dict[str, Bomb] = {
        "a good one": lambda: good,
        "nothing": lambda: b"",
        "half a record": lambda: good[:-7],
        "noise": lambda: random.Random(2).randbytes(1 << 16),
        "a length of 2^63": lambda: good + record(b"x", 1 << 63),
        "a length of 2^40": lambda: good + record(b"x", huge),
        "a length of 2 GiB": lambda: record(b"x", 2 << 30) + bytes(1 << 20),
        "a length of 0": lambda: good + record(b"") * 1_000,
        "a wrong checksum": lambda: good + record(b"x" * 9, crc=0) + good,
        "a checksum of the length that is wrong": lambda: good + bytes(100),
        "nested messages": lambda: events(_nested(3_000)),
        "varints without an end": lambda: events(b"\x10" + b"\xff" * 5_000),
        "a varint of eleven bytes": lambda: events(b"\x10" + b"\x80" * 10 + b"\x01"),
        "a field of 2^60 bytes": lambda: events(varint(5 << 3 | 2) + varint(1 << 60)),
        "groups": lambda: events(b"\x0b" * 5_000),
        "a field number 0": lambda: events(b"\x00\x00"),
        "a tag that is no UTF-8": lambda: events(event(1, field(1, b"\xff\xfe") + field(2, 1))),
        "a tensor of 10^10": lambda: events(event(1, tensor("loss", [10**10]))),
        "a tensor of 10^5 by 10^5": lambda: events(event(1, tensor("loss", [10**5, 10**5]))),
        "a tensor of 255 dimensions": lambda: events(event(1, tensor("loss", [1] * 255))),
        "a tensor of -1": lambda: events(event(1, tensor("loss", [(1 << 64) - 1]))),
        "a tensor of 0": lambda: events(event(1, tensor("loss", [0]))),
        "a tensor of 2^32 by 2^32": lambda: events(event(1, tensor("loss", [1 << 32, 1 << 32]))),
        "a tensor of 500 MB": lambda: events(event(1, tensor("loss", [125_000_000]))),
        "a tensor of objects": lambda: events(
            event(1, field(1, b"loss") + field(8, field(1, 7) + field(8, b"x")))
        ),
        "a tensor of an unknown type": lambda: events(
            event(1, field(1, b"loss") + field(8, field(1, 99) + field(4, b"\0\0\0\0")))
        ),
        "steps that are huge": lambda: events(
            *(event((1 << 63) - 1 - n, scalar("loss", 1.0)) for n in range(50))
        ),
        "steps below 0": lambda: events(event((1 << 64) - 5, scalar("loss", 1.0))),
        "NaN and infinity": lambda: events(
            *(event(n, scalar("loss", (float("nan"), float("inf"))[n % 2])) for n in range(50))
        ),
        "many tags": lambda: events(event(1, *(scalar(f"t{n}", 1.0) for n in range(3_000)))),
        "an enormous tag": lambda: events(event(1, scalar("loss" * 20_000, 1.0))),
        "control characters": lambda: events(event(1, scalar("loss\x1b[31m\u202e", 1.0))),
    }  # fmt: skip
    for name, make in cases.items():
        yield Hostile(name, make, refused=False)


def mutants(whole: bytes, seed: int) -> bytes:
    """A text with a few things wrong in it: bytes, pieces of its own, and pieces of any syntax."""
    rng = random.Random(seed)
    data = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((0, 1, 3, 20, 200)))
        match rng.randrange(4):
            case 0:
                data[at:end] = rng.choice(_PIECES)
            case 1:
                data[at:at] = data[at:end] * rng.choice((1, 2, 50))
            case 2:
                del data[at:end]
            case _:
                data[at:end] = rng.randbytes(rng.randint(1, 4))
    return bytes(data)


_PIECES = [
    *(b"[", b"]", b"{", b"}", b"[[", b"]]", b'"', b"'", b'"""', b"'''", b",", b":", b"=", b"."),
    *(b"#", b"\n", b"\r", b"\\", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b" " * 50),
    *(b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"9" * 5_000, b"0x" + b"f" * 5_000),
    *(b'"\\ud800"', b'"\\u0000"', b'"\\u001b[2J"', b"[" * 300, b'{"a":' * 300, b"a." * 300),
    *(b"[1,", b'{"a":1},', b"-1", b"18446744073709551616", b"1979-05-27", b"inf", b"nan", b"\t"),
]  # fmt: skip
