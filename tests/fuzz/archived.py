"""Mutations of storage items record by record, with sums and sizes that fit again or do not."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, replace
from functools import lru_cache

from dcpctl.formats.torch_zip import open_item
from dcpctl.storage.buffer import BufferStorage
from tests.fuzz import pickled
from tests.test_formats.archives import Rec, Zip

_WORDS = (
    b"3\n",
    b"2\n",
    b"99\n",
    b"1",
    b"2",
    b"64",
    b"63",
    b"128",
    b"little",
    b"big",
    b"0" * 40,
    b"",
)
_EDGES = (0, 1, 8, 0x10, 0x20, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Parsed:
    """The records of an item: (name, data) in order."""

    records: tuple[tuple[str, bytes], ...]


@lru_cache(maxsize=512)
def parsed(data: bytes) -> Parsed:
    """Take a sound item apart."""
    storage = BufferStorage("seed")
    storage.append(data)
    item = open_item(storage, "", 0, len(data), subject="seed")
    return Parsed(tuple((name, item.read(name)) for name in item.records))


def _records(rng: random.Random, records: list[Rec], other: bytes) -> list[Rec]:
    """Change records, mostly the pickle."""
    number = rng.randrange(len(records))
    how = rng.random()
    if how < 0.6:
        (at,) = [n for n, rec in enumerate(records) if rec.name == "data.pkl"][:1] or [0]
        theirs = dict(parsed(other).records)["data.pkl"]
        records[at] = replace(records[at], data=pickled.mutated(records[at].data, theirs, rng))
    elif how < 0.66:
        del records[number]
    elif how < 0.72:
        to = rng.randrange(len(records))
        records[number], records[to] = records[to], records[number]
    elif how < 0.78:
        records.insert(number, replace(rng.choice(records)))
    elif how < 0.84:
        name = rng.choice(
            ("constants.pkl", "data/1", "data/00", "DATA.PKL", "byteorder", "version", "x")
        )
        records.insert(number, Rec(name, rng.choice(_WORDS)))
    elif how < 0.92:
        records[number] = replace(records[number], data=rng.choice(_WORDS))
    else:
        data = records[number].data
        records[number] = replace(records[number], data=data[: rng.randrange(len(data) + 1)])
    return records


def _lied(rng: random.Random, rec: Rec) -> Rec:
    edge = rng.choice(_EDGES)
    size = len(rec.data)
    near = max(size + rng.choice((-64, -1, 1, 64)), 0)
    change = rng.choice(
        (
            *({"attributes": edge}, {"disk": edge & 0xFFFF}, {"header": edge}, {"method": 8}),
            *({"flags": edge & 0xFFFF}, {"local_flags": edge & 0xFFFF}, {"crc": edge}),
            *({"size": near, "packed": near}, {"packed": near}, {"size": near}),
            *({"local_name": b"archive/data/1"}, {"local_extra": edge & 0xFFFF}),
            *({"local_sizes": (edge, near, near)}, {"local_method": 8}),
            *({"extra": b"XX\2\0ab"}, {"extra": b"\1\0\x10\0" + struct.pack("<QQ", size, size)}),
        )
    )
    return replace(rec, **change)


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """An item with a few records changed, or with headers that lie."""
    records = [Rec(name, content) for name, content in parsed(data).records]
    archive = Zip(records, crc=rng.random() > 0.05)
    for _ in range(rng.choice((1, 1, 1, 2))):
        how = rng.random()
        if how < 0.7 and archive.records:
            archive.records = _records(rng, archive.records, other)
        elif how < 0.85 and archive.records:
            number = rng.randrange(len(archive.records))
            archive.records[number] = _lied(rng, archive.records[number])
        elif how < 0.9:
            where = rng.choice(("before_directory", "after_directory", "comment"))
            archive = replace(archive, **{where: rng.choice(_WORDS)})
        elif how < 0.95:
            end = rng.choice(("end", "end64", "locator"))
            fields = {"end": 6, "end64": 9, "locator": 3}[end]
            archive = replace(
                archive, **{end: {rng.randrange(fields): rng.choice(_EDGES) & 0xFFFF}}
            )
        else:
            change = rng.choice(({"align": 1}, {"align": 128}, {"needed": 20}, {"zip64": False}))
            archive = replace(archive, **change, prefix=rng.choice(("archive/", "archive/", "a/")))
    made = archive.build()
    if rng.random() < 0.05:
        made = rng.choice((b"PK\3\4", b"\x80\x02}.", made[:200])) + made
    return made
