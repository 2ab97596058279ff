"""What a load did, written down by the run that did it: the contract `dcpctl.receipt/1`.

`dcpctl.training.StrictLoadPlanner` writes a receipt; a gate reads it, where no torch is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpctl import limits
from dcpctl.documents.fields import Document, Field, Table
from dcpctl.documents.files import Kind
from dcpctl.errors import InputError, quote
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.storage.whole_file import whole_file

SCHEMA = "dcpctl.receipt/1"

_FAULT = f"is missing or not what {SCHEMA} says"


class MalformedReceipt(InputError):
    """A file that was given as a load receipt and is none."""

    id = "malformed-receipt"


_KIND = Kind("receipt", MalformedReceipt, limits.DOCUMENT_BYTES)


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
    hint = "its directory must be there and writable on rank 0"
    with whole_file(Path(path), "the receipt", hint) as stream:
        stream.write(json.dumps(receipt.document(), indent=2) + "\n")


def read_receipt(path: str | os.PathLike[str]) -> Receipt:
    """Read a receipt.

    Raises:
        MalformedReceipt: it is none, or of a form that this dcpctl does not know.
        MalformedMetadata, LimitExceeded: it is no JSON, or too large.
        ReadFailed: the operating system failed to read.
    """
    writer = "StrictLoadPlanner(receipt=PATH) of dcpctl.training writes one"
    document = Document.of_json(Path(path), _KIND, SCHEMA, writer)
    top = Table(document, (), document.found)
    found = top.declared(
        _field("checkpoint", _is_source),
        _field("loaded", _are_names),
        _field("skipped", _are_keyed),
        _field("filled", _are_keyed),
        _field("missing", _are_names),
        _field("world_size", lambda value: type(value) is int),
        *(_field(key, lambda value: isinstance(value, str)) for key in ("torch", "dcpctl", "time")),
    )
    source = found.pop("checkpoint")
    return Receipt(
        saved_as=source.get("saved_as"),
        save_id=source.get("save_id"),
        loaded=tuple(found.pop("loaded")),
        skipped=tuple(
            SkippedKey(one["key"], bool(one.get("ignored"))) for one in found.pop("skipped")
        ),
        filled=tuple(FilledKey(one["key"], one.get("value")) for one in found.pop("filled")),
        missing=tuple(found.pop("missing")),
        **found,
    )


def _field(key: str, fits: Callable[[Any], bool]) -> Field:
    return Field(key, fits, _FAULT)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _are_keyed(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and isinstance(one.get("key"), str) for one in value
    )


def _is_source(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(key), (str, type(None))) for key in ("saved_as", "save_id")
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
