"""A result as one JSON document, written as it is made: memory does not grow with the entries."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def document(head: Mapping[str, Any], **lists: Iterable[Any]) -> Iterator[str]:
    """Yield the text of a JSON object: a line per key of `head`, then per item of each list.

    It is strict JSON in ASCII, so nothing in it can move a terminal's cursor.
    """
    separator = "{\n  "
    for key, value in head.items():
        yield f"{separator}{_text(key)}: {_text(value)}"
        separator = ",\n  "
    for key, items in lists.items():
        yield f"{separator}{_text(key)}: ["
        between = "\n    "
        for item in items:
            yield between + _text(item)
            between = ",\n    "
        yield "]" if between == "\n    " else "\n  ]"
        separator = ",\n  "
    yield "\n}\n"


def _text(value: Any) -> str:
    # A CI runner that reads along obeys `##[add-mask]x` wherever in a line; JSON may escape it.
    return json.dumps(value, allow_nan=False).replace("##", "\\u0023#")
