"""JSON from a checkpoint, as hostile as any other input."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

from dcpctl import limits
from dcpctl.errors import LimitExceeded, MalformedMetadata, quote


def parse_object(data: bytes, subject: str) -> dict[str, Any]:
    """Parse one JSON object strictly.

    Args:
        data: the text; UTF-8.
        subject: what it is, for messages.

    Raises:
        MalformedMetadata: not UTF-8, not JSON, no object, NaN or Infinity, or an object that has
            one key twice: readers differ in which of the two they believe.
        LimitExceeded: more values than `limits.SAFETENSORS_HEADER_NODES`.
    """
    nodes = data.count(b",") + data.count(b"[") + data.count(b"{")
    if nodes > limits.SAFETENSORS_HEADER_NODES:
        raise LimitExceeded(f"{subject}: JSON of {nodes} values")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise MalformedMetadata(f"{subject}: the key {quote(twice)} stands twice in one object")
        return made

    def constant(name: str) -> NoReturn:
        raise MalformedMetadata(f"{subject}: {name} is no JSON")

    try:
        parsed = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except UnicodeDecodeError:
        raise MalformedMetadata(f"{subject}: the JSON is not UTF-8") from None
    except RecursionError:
        raise MalformedMetadata(f"{subject}: the JSON is nested too deeply") from None
    except ValueError as error:
        raise MalformedMetadata(f"{subject}: not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise MalformedMetadata(f"{subject}: the JSON is no object")
    return parsed


def integers(value: Any) -> tuple[int, ...] | None:
    """Return a JSON list of integers from 0 to 2^63 - 1 as a tuple, or None if it is none."""
    if not isinstance(value, list):
        return None
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in value):
        return None
    return tuple(value)
