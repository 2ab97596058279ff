"""Decoded values as text: hyperparameters in a word, whole objects over several lines."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

from dcpctl.errors import DcpctlError
from dcpctl.formats.pickles.standins import Opaque, Record
from dcpctl.model.values import SHOWN_AS_THEY_ARE, Unknown, to_json, type_name
from dcpctl.reports import words

_MOST = 60
_PLAIN = (bool, int, float, complex, str, type(None))


def short(value: Any) -> str:
    """A value in at most 60 characters: numbers to six digits, an opaque object by its class."""
    if isinstance(value, (tuple, list)) and all(isinstance(item, _PLAIN) for item in value):
        text = words.number(value)
    elif isinstance(value, _PLAIN):
        text = repr(value) if isinstance(value, str) else words.number(value)
    elif isinstance(value, Unknown):
        text = "unknown"
    elif isinstance(value, SHOWN_AS_THEY_ARE):
        text = repr(value)
    elif isinstance(value, Record):
        text = _fields(value)
    elif isinstance(value, deque):
        most = "" if value.maxlen is None else f", maxlen={value.maxlen}"
        text = f"deque({_json(value)}{most})"
    elif isinstance(value, Mapping) or type(value).__module__ == "builtins":
        text = _json(value)
    elif type_name(value) == "torch.Size":
        text = str(value)
    elif isinstance(value, Opaque):
        text = repr(value)
    else:
        text = f"<{type_name(value)}>"
    return text if len(text) <= _MOST else text[: _MOST - 3] + "..."


def whole(value: Any) -> str:
    """A value as it is: a scalar by its repr, a container as indented JSON."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, SHOWN_AS_THEY_ARE) or type_name(value) == "torch.Size":
        return repr(value)
    text = _json(value, indent=2)
    if text == "null":
        return repr(value) if isinstance(value, Opaque) else f"<{type_name(value)}>"
    return text


def _fields(value: Record) -> str:
    """`Namespace(lr=0.1, ...)`: fields until the line is full."""
    parts: list[str] = []
    for name, field in value.fields.items():
        parts.append(f"{name}={short(field)}")
        if sum(map(len, parts)) > _MOST:
            break
    return f"{value.name}({', '.join(parts)})"


def _json(value: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(to_json(value), indent=indent, ensure_ascii=False)
    except DcpctlError:
        return f"<{type_name(value)}, too large to show>"
