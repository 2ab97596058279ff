"""Checkpoints made of dicts, for tests that need names and values and no bytes on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class FakeTensor:
    fqn: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    values: list[float] | None = None
    reads: list[str] = field(default_factory=list)

    @property
    def numel(self) -> int:
        return int(np.prod(self.shape))

    def checksums(self) -> tuple[object, ...] | None:
        return None if self.values is None else (self.dtype, *self.values)

    def numpy(self) -> np.ndarray:
        self.reads.append(self.fqn)
        values = self.values if self.values is not None else np.zeros(self.numel)
        return np.array(values, dtype=np.float64).reshape(self.shape)


@dataclass
class FakeBytes:
    fqn: str
    content: Any

    @property
    def value(self) -> Any:
        return self.content

    @property
    def type(self) -> str:
        return f"{type(self.content).__module__}.{type(self.content).__qualname__}"


@dataclass
class FakeCheckpoint:
    entries: dict[str, FakeTensor | FakeBytes]
    planner_data: dict[str, tuple[str | int, ...]] | None = None
    reads: list[str] = field(default_factory=list)


def tensor(*shape: int, dtype: str = "float32", value: float | None = None) -> FakeTensor:
    return FakeTensor("", shape, dtype, None if value is None else [value])


def scalar(value: float) -> FakeTensor:
    return tensor(value=value)


def from_state_dict(state_dict: Mapping[str, Any], *, planner: bool = True) -> FakeCheckpoint:
    """Flatten as torch 2.4 and later do: mappings always, lists where they hold mappings."""
    entries: dict[str, FakeTensor | FakeBytes] = {}
    paths: dict[str, tuple[str | int, ...]] = {}
    checkpoint = FakeCheckpoint(entries, paths if planner else None)

    def add(path: tuple[str | int, ...], value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                add((*path, str(key)), item)
        elif isinstance(value, list) and any(
            isinstance(item, (Mapping, FakeTensor)) for item in value
        ):
            for index, item in enumerate(value):
                add((*path, index), item)
        else:
            fqn = ".".join(str(key) for key in path)
            paths[fqn] = path
            if isinstance(value, FakeTensor):
                values = value.values
                entries[fqn] = FakeTensor(fqn, value.shape, value.dtype, values, checkpoint.reads)
            else:
                entries[fqn] = FakeBytes(fqn, value)

    add((), state_dict)
    return checkpoint


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if "__tuple__" in value:
            return tuple(_plain(item) for item in value["__tuple__"])
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def from_expected(path: Path) -> FakeCheckpoint:
    """Make the checkpoint that an `expected.json` of ../shared/checkpoints describes."""
    expected = json.loads(path.read_text())
    checkpoint = FakeCheckpoint({})
    for fqn, entry in expected["entries"].items():
        if entry["kind"] == "tensor":
            shape = tuple(entry["shape"])
            checkpoint.entries[fqn] = FakeTensor(
                fqn, shape, entry["dtype"], entry.get("values"), checkpoint.reads
            )
        else:
            checkpoint.entries[fqn] = FakeBytes(fqn, _plain(entry["value"]))
    if expected["mappings"]:
        checkpoint.planner_data = {k: tuple(v) for k, v in expected["mappings"].items()}
    return checkpoint
