"""A baseline as a file: the JSON `dcpctl.baseline/1`, a waiver a line and sorted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dcpctl import limits
from dcpctl.check.baseline import Baseline, Key, Waiver
from dcpctl.check.finding import SEVERITIES
from dcpctl.documents.fields import Document, Field, Table
from dcpctl.documents.files import Kind
from dcpctl.errors import InputError, UsageError, quote
from dcpctl.storage.whole_file import whole_file

SCHEMA = "dcpctl.baseline/1"

_TEXTS = ("rule", "subject", "message", "severity")


class BaselineError(UsageError):
    """A file that was given as a baseline and is none."""

    id = "baseline"


_KIND = Kind("baseline", BaselineError, limits.DOCUMENT_BYTES, "--update-baseline writes it")


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        BaselineError: it is none.
        ReadFailed: it cannot be read.
    """
    try:
        document = Document.of_json(path, _KIND, SCHEMA, "--update-baseline writes one")
    except InputError as error:
        raise BaselineError(f"{quote(path)} is no baseline: {error.message}") from None
    listed = document.found.get("waivers")
    if not isinstance(listed, list):
        raise document.error(("waivers",), f"it has no schema {quote(SCHEMA)} with waivers")
    waivers: dict[Key, Waiver] = {}
    for number, one in enumerate(listed, 1):
        waiver = _waiver(document, number, one)
        waivers[waiver.key] = waiver
    return Baseline(path, waivers)


def write_baseline(baseline: Baseline) -> None:
    """Write a baseline; a reader sees the whole of it or none.

    Raises:
        ReadFailed: the operating system failed to write.
    """
    target = baseline.path
    lines = [json.dumps(_document(waiver)) for _, waiver in sorted(baseline.waivers.items())]
    listed = ",".join(f"\n    {line}" for line in lines) + ("\n  " if lines else "")
    text = f'{{\n  "schema": {json.dumps(SCHEMA)},\n  "waivers": [{listed}]\n}}\n'
    with whole_file(target, "the baseline") as stream:
        stream.write(text)


def _document(waiver: Waiver) -> dict[str, Any]:
    made: dict[str, Any] = {name: getattr(waiver, name) for name in (*_TEXTS, "count")}
    return {**made, "reason": waiver.reason} if waiver.reason else made


def _waiver(document: Document, number: int, found: Any) -> Waiver:
    where = ("waivers", number - 1)
    if not isinstance(found, dict):
        raise document.error(where, f"waiver {number}: expected an object")
    table = Table(document, where, found, f"waiver {number}")
    made = table.declared(
        *(Field(name, _is_text, "is missing or no text") for name in _TEXTS),
        Field("reason", _is_text, "is missing or no text", ""),
        Field("count", lambda value: type(value) is int and value > 0, "is no number above 0", 1),
    )
    if made["severity"] not in SEVERITIES:
        raise table.wrong("severity", f"'severity' is not one of {', '.join(SEVERITIES)}")
    table.done()
    return Waiver(**made)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
