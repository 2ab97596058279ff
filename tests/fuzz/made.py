"""Whole `.metadata` files and storage items that no sample has, written by torch's own classes.

Most are what a release could write; in some, one field is of a kind, size or place that it never
is there, or two objects are one. The picklers are the real ones, so that the streams are sound and
what is odd in them lies in the values.
"""

from __future__ import annotations

import datetime
import io
import pickle
import random
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

#: Paths of state dicts; None is a number. No path leads through the end of another.
_PATHS: tuple[tuple[str | None, ...], ...] = (
    *(("model", "layers", None, "weight"), ("model", "layers", None, "bias"), ("model", "norm")),
    *(("optim", "state", "w", "exp_avg"), ("optim", "state", "b", "step"), ("step",), ("é", "x")),
    *(("optim", "param_groups", None, "lr"), ("optim", "param_groups", None, "betas", None)),
    *(("rng", None), ("dataloader", "state"), ("x" * 300,), ("a/b", "../x"), ("epoch",)),
)
_PARTS = ("model", "optim", "state", "layers", "0", "1", "weight", "bias", "exp_avg", "step", "lr")
_ODD_TEXTS = ("", "é", "a/b", "../x", "\x1b[1m", "名", "x" * 300, "a\nb", "nul\0", "\ud800")
_DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64),
)
_LAYOUTS = (torch.strided, torch.strided, torch.sparse_coo, torch.jagged)
_FORMATS = (torch.contiguous_format, torch.channels_last, torch.preserve_format)
_NUMBERS = (0, 1, 2, 7, 255, 256, 65535, 65536, -1, (1 << 31) - 1, 1 << 31, (1 << 63) - 1)
_ODD: tuple[Callable[[random.Random], Any], ...] = (
    *(lambda rng: None, lambda rng: True, lambda rng: 1.5, lambda rng: b"x", lambda rng: "x"),
    *(lambda rng: (1, 2), lambda rng: [], lambda rng: {}, lambda rng: torch.Size((1, 2))),
    *(lambda rng: torch.float32, lambda rng: OrderedDict(), lambda rng: {"a": (1,)}),
    *(lambda rng: rng.choice((1 << 63, 1 << 64, -(1 << 63), -1)), lambda rng: {1}),
    *(lambda rng: BytesStorageMetadata(), lambda rng: ChunkStorageMetadata(_size(rng), _size(rng))),
    *(lambda rng: MetadataIndex("x"), lambda rng: Metadata({}), lambda rng: PurePosixPath("a/b")),
)


def _size(rng: random.Random) -> torch.Size:
    return torch.Size([rng.choice(_NUMBERS) for _ in range(rng.randrange(3))])


def _path(rng: random.Random) -> tuple[str | int, ...]:
    if rng.random() < 0.03:
        return (rng.choice(_ODD_TEXTS),)
    return tuple(rng.randrange(3) if part is None else part for part in rng.choice(_PATHS))


def _fqn(rng: random.Random) -> str:
    return ".".join(map(str, _path(rng)))


def metadata(rng: random.Random) -> bytes:
    """One `.metadata`, of a few entries."""
    entries: dict[Any, Any] = {}
    storage: dict[Any, Any] = {}
    planner: dict[Any, Any] = {}
    places = [0] * rng.choice((1, 1, 2, 3))
    described = rng.random() < 0.15
    parts: list[Any] = []
    for _ in range(rng.choice((1, 1, 2, 2, 3, 5))):
        path = _path(rng)
        fqn = ".".join(map(str, path))
        planner[fqn] = path
        if rng.random() < 0.3:
            entries[fqn] = BytesStorageMetadata()
            storage[MetadataIndex(fqn)] = _placed(rng, places, described)
            continue
        entries[fqn] = _tensor(rng, fqn, storage, places, described)
        parts += [entries[fqn].properties, *entries[fqn].chunks]
    whole = Metadata(entries, *_plans(rng, planner), storage)
    if rng.random() < 0.5:
        whole.storage_meta = StorageMeta("x", None, None, []) if rng.random() < 0.3 else None
    if rng.random() < 0.4:
        del whole.__dict__["version"]
        if rng.random() < 0.5:
            del whole.__dict__["storage_meta"]
    if rng.random() < 0.35:
        parts += [whole, *entries.values(), *storage.values(), *storage]
        _twist(rng, parts, entries, storage)
    # torch pickles with Python's default protocol, which is 4 up to Python 3.13 and then 5.
    return pickle.dumps(whole, rng.choice((4, 4, 4, 4, 2, 3, 5)))


def _plans(rng: random.Random, planner: dict[Any, Any]) -> tuple[Any]:
    how = rng.random()
    if how < 0.8:
        return (planner,)
    if how < 0.9:
        return (None,)
    if how < 0.95:
        return ({fqn: list(path) for fqn, path in planner.items()},)
    changed: dict[Any, Any] = {**planner, rng.choice((0, "x", "é")): rng.choice(_ODD)(rng)}
    return (changed,)


def _placed(rng: random.Random, places: list[int], described: bool) -> _StorageInfo:
    rank = rng.randrange(len(places))
    length = rng.choice((100, 255, 256, 700, 1300, 65536))
    info = _StorageInfo(f"__{rank}_0.distcp", places[rank], length)
    places[rank] += length
    if described:
        info.transform_descriptors = ["stream.zstd/1"]
    return info


def _tensor(
    rng: random.Random, fqn: str, storage: dict[Any, Any], places: list[int], described: bool
) -> TensorStorageMetadata:
    shape = [rng.choice((1, 2, 3, 4, 8, 300)) for _ in range(rng.choice((0, 1, 1, 2, 2, 3)))]
    cuts = rng.choice((1, 1, 2, 3)) if shape else 1
    chunks = []
    for part in range(cuts):
        first, last = (shape[0] * part // cuts, shape[0] * (part + 1) // cuts) if shape else (0, 0)
        offsets = torch.Size([first, *[0] * (len(shape) - 1)][: len(shape)])
        sizes = torch.Size([last - first, *shape[1:]][: len(shape)])
        chunks.append(ChunkStorageMetadata(offsets, sizes))
        index = MetadataIndex(fqn, offsets, rng.choice((part, part, None)))
        if rng.random() < 0.3:  # the very object, as torch's planner has it
            object.__setattr__(index, "offset", offsets)
        storage[index] = _placed(rng, places, described)
    properties = TensorProperties(
        dtype=rng.choice(_DTYPES),
        layout=_LAYOUTS[0] if rng.random() < 0.9 else rng.choice(_LAYOUTS),
        requires_grad=rng.random() < 0.3,
        memory_format=rng.choice(_FORMATS),
        pin_memory=rng.random() < 0.1,
    )
    return TensorStorageMetadata(properties, torch.Size(shape), chunks)


def _twist(
    rng: random.Random, parts: list[Any], entries: dict[Any, Any], storage: dict[Any, Any]
) -> None:
    """Put something where it does not belong, take something away, or make two things one."""
    for _ in range(rng.choice((1, 1, 2))):
        part = rng.choice(parts)
        fields = list(part.__dict__)
        how = rng.random()
        if how < 0.35 and fields:
            same = [x for x in parts if type(x) is type(part)]
            name = rng.choice(fields)
            value = rng.choice(same).__dict__.get(name)
            _put(part, name, value)
        elif how < 0.6 and fields:
            _put(part, rng.choice(fields), rng.choice(_ODD)(rng))
        elif how < 0.66 and fields and not isinstance(part, TensorProperties):
            _drop(part, rng.choice(fields))
        elif how < 0.72:
            _put(part, rng.choice(("x", "offset", "__setstate__", "index")), rng.choice(_NUMBERS))
        elif how < 0.78 and storage:
            storage[rng.choice(list(storage))] = rng.choice(_ODD)(rng)
        elif how < 0.84 and storage:
            # By its place: a key that was twisted is not found by its hash any more.
            left = list(storage.items())
            del left[rng.randrange(len(left))]
            storage.clear()
            storage.update(left)
        elif how < 0.9:
            storage[MetadataIndex(_fqn(rng), _size(rng) if rng.random() < 0.5 else None)] = (
                _StorageInfo("__0_0.distcp", 0, 100)
            )
        elif entries:
            first, second = rng.choice(list(entries)), rng.choice(list(entries))
            entries[first], entries[second] = entries[second], entries[first]


def _put(part: Any, name: str, value: Any) -> None:
    if isinstance(part, TensorProperties) and name == "memory_format":
        return  # its pickling looks at what it is
    if isinstance(part, MetadataIndex) and name in ("fqn", "offset"):
        try:
            hash(value)
        except TypeError:
            return
    part.__dict__[name] = value


def _drop(part: Any, name: str) -> None:
    if not (isinstance(part, MetadataIndex) and name in ("fqn", "offset")):
        part.__dict__.pop(name, None)


def tensor_item(rng: random.Random) -> bytes:
    """One tensor as DCP saves it."""
    return _saved(_some_tensor(rng, []))


def value_item(rng: random.Random) -> bytes:
    """One bytes entry."""
    return _saved(_value(rng, 0, []))


def _saved(value: Any) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, file)
    return file.getvalue()


def _some_tensor(rng: random.Random, seen: list[Any]) -> Any:
    how = rng.random()
    dtype = rng.choice(_DTYPES)
    shape = [rng.choice((0, 1, 1, 2, 3, 4, 5)) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4)))]
    count = int(np.prod(shape)) * torch.empty(0, dtype=dtype).element_size()
    raw = bytearray(rng.randbytes(count) if dtype != torch.bool else bytes(count))
    tensor = (torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)).reshape(
        shape
    )
    if how < 0.15 and seen:
        tensor = rng.choice(seen)
    elif how < 0.3 and len(shape) >= 2:
        tensor = tensor.transpose(0, 1)
    elif how < 0.4 and shape and shape[0] > 1:
        tensor = tensor[1:]
    elif how < 0.45 and shape and shape[0] > 2:
        tensor = tensor[::2]
    elif how < 0.5 and dtype.is_complex:
        tensor = tensor.conj() if rng.random() < 0.5 else torch._neg_view(tensor)
    elif how < 0.55 and dtype in (torch.float32, torch.bfloat16):
        tensor = torch.nn.Parameter(tensor, requires_grad=rng.random() < 0.8)
    elif how < 0.6 and dtype in (torch.float32, torch.float64):
        tensor = tensor.requires_grad_()
    elif how < 0.63:
        tensor = tensor.expand(2, *tensor.shape)
    seen.append(tensor)
    return tensor


def _scalar(rng: random.Random) -> Any:
    how = rng.randrange(9)
    if how < 3:
        return rng.choice((*_NUMBERS, 1 << 70, -(1 << 100)))
    if how == 3:
        return rng.choice((0.0, -0.0, 1e-3, float("inf"), float("nan"), 1e308))
    if how < 6:
        return rng.choice((*_PARTS, *_ODD_TEXTS[:-1], "utf-8" * 60))
    return rng.choice((None, True, False, b"", b"raw\0\xff", bytes(300), 1 + 2j))


def _value(rng: random.Random, depth: int, seen: list[Any]) -> Any:
    how = rng.random()
    if depth > 3 or how < 0.35:
        return _scalar(rng)
    if how < 0.7:
        parts = [_value(rng, depth + 1, seen) for _ in range(rng.choice((0, 1, 2, 3, 4, 6)))]
        if parts and rng.random() < 0.2:
            parts.append(rng.choice(parts))
        kind = rng.randrange(6)
        if kind < 2:
            return parts if kind else tuple(parts)
        keys = [rng.choice((*_PARTS, 0, 1, 2, None, True, 0.5, b"k", ("a", 1))) for _ in parts]
        made: Any = dict(zip(keys, parts, strict=True))
        return (made, OrderedDict(made), made, defaultdict(dict, made))[kind - 2]
    if how < 0.85:
        return _some_tensor(rng, seen)
    return rng.choice(_OTHERS)(rng)


_OTHERS: tuple[Callable[[random.Random], Any], ...] = (
    *(lambda rng: rng.choice(_DTYPES), lambda rng: torch.Size((2, rng.choice((0, 3, 300))))),
    *(lambda rng: torch.device("cpu"), lambda rng: torch.device("cuda", 1)),
    *(lambda rng: {1, 2, "a"}, lambda rng: frozenset((1, "b")), lambda rng: set()),
    *(lambda rng: bytearray(b"abc"), lambda rng: deque([1, 2], 5), lambda rng: range(3)),
    *(lambda rng: slice(1, None, 2), lambda rng: PurePosixPath("a/b"), lambda rng: int),
    *(lambda rng: np.float64(0.5), lambda rng: np.int64(7), lambda rng: np.arange(5.0)),
    *(lambda rng: np.arange(6, dtype=">i4").reshape(2, 3), lambda rng: np.dtype("float32")),
    *(lambda rng: np.arange(6.0).reshape(2, 3).T, lambda rng: np.array([True])),
    *(lambda rng: datetime.datetime(2024, 1, 2), lambda rng: torch.get_rng_state()[:64]),
    *(lambda rng: torch.strided, lambda rng: torch.contiguous_format),
)

MAKERS: dict[str, Callable[[random.Random], bytes]] = {
    "metadata": metadata,
    "tensor": tensor_item,
    "value": value_item,
}
