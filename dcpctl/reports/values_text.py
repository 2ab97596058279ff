"""Decoded values as text: hyperparameters in a word, whole objects over several lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dcpctl.errors import DcpctlError
from dcpctl.model.values import Unknown, to_json, type_name
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
    elif isinstance(value, Mapping) or type(value).__module__ == "builtins":
        text = _json(value)
    elif type_name(value) in ("torch.Size", "torch.dtype", "torch.device"):
        text = str(value)
    else:
        text = f"<{type_name(value)}>"
    return text if len(text) <= _MOST else text[: _MOST - 3] + "..."


def whole(value: Any) -> str:
    """A value as it is: a scalar by its repr, a container as indented JSON."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if type_name(value) in ("torch.Size", "torch.dtype", "torch.device"):
        return repr(value)
    text = _json(value, indent=2)
    return f"<{type_name(value)}>" if text == "null" else text


def _json(value: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(to_json(value), indent=indent, ensure_ascii=False)
    except DcpctlError:
        return f"<{type_name(value)}, too large to show>"
