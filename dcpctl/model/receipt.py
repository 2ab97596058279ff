"""What a load did, written down by the run that did it: the contract `dcpctl.receipt/1`.

`dcpctl.training.StrictLoadPlanner` writes a receipt; a gate reads it, where no torch is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpctl.errors import InputError, ReadFailed, quote
from dcpctl.formats.json_text import parse_object
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.storage.renames import whole_file

SCHEMA = "dcpctl.receipt/1"

#: Bytes of the largest receipt that is read; a key takes about 100.
_MOST_BYTES = 256 << 20


class MalformedReceipt(InputError):
    """A file that was given as a load receipt and is none."""

    id = "malformed-receipt"


@dataclass(frozen=True, slots=True)
class SkippedKey:
    """A key that stayed on disk.

    Attributes:
        key: its FQN.
        ignored: whether the run had said that it may.
    """

    key: str
    ignored: bool


@dataclass(frozen=True, slots=True)
class FilledKey:
    """A key that the checkpoint lacks and that was filled by rule instead of read.

    Attributes:
        key: its FQN.
        value: what it was filled with; its `repr` where JSON has no such value.
    """

    key: str
    value: object


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one load did with each key; all ranks together.

    Attributes:
        saved_as: the checkpoint's own id, the directory that it was saved to; None if it has none
            (before 2.4).
        save_id: of the save, a UUID; None where the checkpoint has none.
        loaded: keys that some rank read.
        skipped: keys on disk that no rank asked for.
        filled: keys that were filled instead of read.
        missing: keys that were asked for, are not on disk and stayed as they were; not empty only
            where a partial load was allowed.
        world_size: ranks that took part.
        torch: version of torch.
        dcpctl: version of dcpctl.
        time: when the load ended, ISO 8601 in UTC.
    """

    saved_as: str | None
    save_id: str | None
    loaded: tuple[str, ...]
    skipped: tuple[SkippedKey, ...] = ()
    filled: tuple[FilledKey, ...] = ()
    missing: tuple[str, ...] = ()
    world_size: int = 1
    torch: str = ""
    dcpctl: str = ""
    time: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "schema": SCHEMA,
            "time": self.time,
            "torch": self.torch,
            "dcpctl": self.dcpctl,
            "world_size": self.world_size,
            "checkpoint": {"saved_as": self.saved_as, "save_id": self.save_id},
            "loaded": list(self.loaded),
            "skipped": [{"key": one.key, "ignored": one.ignored} for one in self.skipped],
            "filled": [{"key": one.key, "value": _json_value(one.value)} for one in self.filled],
            "missing": list(self.missing),
        }

    def differs_from(self, checkpoint: Checkpoint) -> str:
        """Say why the receipt is not that of a load of this checkpoint; empty if it may be.

        The id of the save tells where both have one, and the keys always.
        """
        theirs = identity(checkpoint)[1]
        if self.save_id is not None and theirs is not None and self.save_id != theirs:
            return f"the receipt is of the save {self.save_id}, and this is {theirs}"
        known = {*self.loaded, *(one.key for one in self.skipped)}
        stored = set(checkpoint.entries)
        more, fewer = sorted(known - stored), sorted(stored - known)
        if more:
            return f"the receipt has {quote(more[0])}, which is not in the checkpoint"
        if fewer:
            return f"the checkpoint has {quote(fewer[0])}, which is not in the receipt"
        return ""


def identity(checkpoint: Checkpoint) -> tuple[str | None, str | None]:
    """Return what a checkpoint says of its save: (directory, UUID); `StorageMeta`, first in 2.4."""
    for part in checkpoint.parts:
        fields = getattr(part.stored.fields.get("storage_meta"), "fields", {})
        saved_as, save_id = fields.get("checkpoint_id"), fields.get("save_id")
        if saved_as is not None or save_id is not None:
            return _text(saved_as), _text(save_id)
    return None, None


def write_receipt(receipt: Receipt, path: str | os.PathLike[str]) -> None:
    """Write a receipt as JSON; a reader sees the whole of it or none.

    Raises:
        ReadFailed: the operating system failed to write.
    """
    target = Path(path)
    try:
        with whole_file(target) as stream:
            stream.write(json.dumps(receipt.document(), indent=2) + "\n")
    except OSError as error:
        raise ReadFailed(
            f"cannot write the receipt {quote(target)}: {error.strerror}",
            hint="its directory must be there and writable on rank 0",
        ) from None


def read_receipt(path: str | os.PathLike[str]) -> Receipt:
    """Read a receipt.

    Raises:
        MalformedReceipt: it is none, or of a form that this dcpctl does not know.
        MalformedMetadata, LimitExceeded: it is no JSON, or too large.
        ReadFailed: the operating system failed to read.
    """
    where = Path(path)
    try:
        size = where.stat().st_size
        data = where.read_bytes() if size <= _MOST_BYTES else b""
    except OSError as error:
        raise ReadFailed(f"cannot read the receipt {quote(where)}: {error.strerror}") from None
    if size > _MOST_BYTES:
        raise MalformedReceipt(f"{quote(where)} has {size:,} bytes, too many for a receipt")
    found = parse_object(data, quote(where))
    if found.get("schema") != SCHEMA:
        said = found.get("schema")
        raise MalformedReceipt(
            f"{quote(where)} is no load receipt: its schema is "
            f"{quote(said) if isinstance(said, str) else 'not said'}, expected {SCHEMA}",
            hint="StrictLoadPlanner(receipt=PATH) of dcpctl.training writes one",
        )
    return _Reading(where, found).receipt()


class _Reading:
    """Takes a document apart, and says which of its keys is not what it should be."""

    def __init__(self, where: Path, found: dict[str, Any]) -> None:
        self.where = where
        self.found = found

    def receipt(self) -> Receipt:
        source = self._of("checkpoint", dict)
        saved_as, save_id = source.get("saved_as"), source.get("save_id")
        for value in (saved_as, save_id):
            if value is not None and not isinstance(value, str):
                raise self._malformed("checkpoint")
        return Receipt(
            saved_as=saved_as,
            save_id=save_id,
            loaded=self._names("loaded"),
            skipped=tuple(
                SkippedKey(key, bool(one.get("ignored"))) for key, one in self._keyed("skipped")
            ),
            filled=tuple(FilledKey(key, one.get("value")) for key, one in self._keyed("filled")),
            missing=self._names("missing"),
            world_size=self._of("world_size", int),
            torch=self._of("torch", str),
            dcpctl=self._of("dcpctl", str),
            time=self._of("time", str),
        )

    def _of(self, key: str, kind: type) -> Any:
        value = self.found.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self._malformed(key)
        return value

    def _names(self, key: str) -> tuple[str, ...]:
        names = self._of(key, list)
        if not all(isinstance(name, str) for name in names):
            raise self._malformed(key)
        return tuple(names)

    def _keyed(self, key: str) -> Sequence[tuple[str, dict[str, Any]]]:
        items = self._of(key, list)
        if not all(isinstance(one, dict) and isinstance(one.get("key"), str) for one in items):
            raise self._malformed(key)
        return [(one["key"], one) for one in items]

    def _malformed(self, key: str) -> MalformedReceipt:
        return MalformedReceipt(
            f"{quote(self.where)} is no load receipt: {quote(key)} is missing or not what "
            f"{SCHEMA} says"
        )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _json_value(value: object) -> object:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and value - value == 0:
        return value
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    return repr(value)
