"""Mutations of storage items record by record, with sums and sizes that fit again or do not."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, replace
from functools import lru_cache

from dcpctl.formats.torch_zip import open_item
from dcpctl.storage.buffer import BufferStorage
from tests.fuzz import pickled
from tests.test_formats.archives import Rec, Zip, contiguous, tensor_pickle, tensor_zip

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


@lru_cache(maxsize=2048)
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


def gentle(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """An item that most likely is still one: other numbers, names and data, with the right sums."""
    records = [Rec(name, content) for name, content in parsed(data).records]
    for _ in range(rng.choice((1, 1, 2))):
        number = rng.randrange(len(records))
        rec = records[number]
        how = rng.random()
        if how < 0.6:
            at = next(n for n, one in enumerate(records) if one.name == "data.pkl")
            records[at] = replace(records[at], data=pickled.gentle(records[at].data, b"", rng))
        elif how < 0.85 and rec.name.startswith("data/") and rec.data:
            spoilt = bytearray(rec.data)
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
            cut = rng.choice((None, None, None, -1, -4, -8))
            records[number] = replace(
                rec, data=bytes(spoilt[:cut]) + rng.choice((b"", b"", b"\0" * 4))
            )
        elif how < 0.92 and rec.name in (".format_version", "byteorder", ".data/serialization_id"):
            del records[number]
        else:
            theirs = [Rec(name, content) for name, content in parsed(other).records]
            same = [one for one in theirs if one.name == rec.name]
            records[number] = same[0] if same else rec
    return Zip(records, crc=rng.random() > 0.1).build()


def grown(rng: random.Random) -> bytes:
    """A tensor item of any shape, strides and offset, with a storage of its size or nearly."""
    shape = tuple(rng.choice((0, 1, 1, 2, 3, 5)) for _ in range(rng.choice((0, 1, 2, 2, 3))))
    stride = list(contiguous(shape))
    if rng.random() < 0.5:
        rng.shuffle(stride)
    if stride and rng.random() < 0.2:
        stride[rng.randrange(len(stride))] = rng.choice((0, 1, 2, 7))
    offset = rng.choice((0, 0, 0, 1, 5))
    storage, width, dtype = rng.choice(_STORAGES)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) + 1
    count = max(0 if 0 in shape else last, 0) + rng.choice((0, 0, 0, 0, -1, 1, 4))
    numel = max(count, 0) * (width if storage == "UntypedStorage" else 1)
    size = max(count, 0) * width + rng.choice((0, 0, 0, 0, 0, -1, 1, width))
    pickle = tensor_pickle(
        shape, stride=stride, storage=storage, numel=numel, offset=offset, dtype=dtype
    )
    return tensor_zip(pickle, rng.randbytes(max(size, 0))).build()


#: Storage class, bytes an element, and the dtype that `_rebuild_tensor_v3` is told.
_STORAGES = (
    *(("FloatStorage", 4, None), ("DoubleStorage", 8, None), ("BFloat16Storage", 2, None)),
    *(("LongStorage", 8, None), ("ByteStorage", 1, None), ("ComplexFloatStorage", 8, None)),
    *(("UntypedStorage", 1, "float8_e4m3fn"), ("UntypedStorage", 2, "uint16")),
    *(("UntypedStorage", 8, "uint64"), ("UntypedStorage", 4, "uint32")),
)
