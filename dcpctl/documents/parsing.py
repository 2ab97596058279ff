"""JSON and TOML within bounds: of nesting, of values, of the time that reading them takes."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from dcpctl import limits
from dcpctl.documents.lines import toml_keys
from dcpctl.errors import LimitExceeded, MalformedMetadata, quote


def parse_json(data: bytes, subject: str) -> dict[str, Any]:
    """Parse one JSON object strictly.

    Args:
        data: the text; UTF-8.
        subject: what it is, for messages.

    Raises:
        MalformedMetadata: not UTF-8, not JSON, no object, NaN or Infinity, or an object that has
            one key twice: readers differ in which of the two they believe. Or nested deeper than
            `limits.DOCUMENT_DEPTH`.
        LimitExceeded: more values than `limits.JSON_NODES`.
    """
    import json
    from collections import Counter

    nodes = data.count(b",") + data.count(b"[") + data.count(b"{")
    if nodes > limits.JSON_NODES:
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
    if _is_deep(parsed):
        raise MalformedMetadata(f"{subject}: the JSON is nested too deeply")
    return parsed


def integers(value: Any) -> tuple[int, ...] | None:
    """Return a JSON list of integers from 0 to 2^63 - 1 as a tuple, or None if it is none."""
    if not isinstance(value, list):
        return None
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in value):
        return None
    return tuple(value)


def _is_deep(value: object) -> bool:
    """Whether containers lie deeper in each other than anything that walks them may go."""
    level = [value]
    for _ in range(limits.DOCUMENT_DEPTH):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)  # type: ignore[attr-defined]
            if type(inner) in (dict, list)
        ]
        if not level:
            return False
    return True


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML document.

    Raises:
        ValueError: it is none, or would take longer than `limits.TOML_STEPS` allow.
    """
    steps = 5 * sum(map(text.count, ",[{"))
    for key in toml_keys(text, limits.DOCUMENT_DEPTH):
        steps += 4 + key.parts * key.parts  # each part is looked up from the top again
        if key.depth > limits.DOCUMENT_DEPTH or key.parts > limits.DOCUMENT_DEPTH:
            raise ValueError(f"nested too deeply (at line {key.line})")
        if steps > limits.TOML_STEPS:
            raise ValueError(f"it holds too many keys (at line {key.line})")
    if steps > limits.TOML_STEPS:
        raise ValueError("it holds too many values")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
