"""A baseline as a file: the JSON `dcpctl.baseline/1`, a waiver a line and sorted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dcpctl.check.baseline import Baseline, Key, Waiver
from dcpctl.check.finding import SEVERITIES
from dcpctl.errors import DcpctlError, ReadFailed, UsageError, quote
from dcpctl.formats.json_text import parse_object
from dcpctl.storage.renames import whole_file

SCHEMA = "dcpctl.baseline/1"

_MAX_BYTES = 64 << 20
_TEXTS = ("rule", "subject", "message", "severity")


class BaselineError(UsageError):
    """A file that was given as a baseline and is none."""

    id = "baseline"


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        BaselineError: it is none.
        ReadFailed: it cannot be read.
    """
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= _MAX_BYTES else b""
    except OSError as error:
        raise ReadFailed(
            f"cannot read the baseline {quote(path)}: {error.strerror}",
            hint="--update-baseline writes it",
        ) from None
    if size > _MAX_BYTES:
        raise BaselineError(f"{quote(path)} has {size:,} bytes, too many for a baseline")
    try:
        found = parse_object(data, quote(path))
    except DcpctlError as error:
        raise BaselineError(f"{quote(path)} is no baseline: {error}") from None
    listed = found.get("waivers")
    if found.get("schema") != SCHEMA or not isinstance(listed, list):
        raise BaselineError(
            f"{quote(path)} is no baseline: it has no schema {quote(SCHEMA)} with waivers",
            hint="--update-baseline writes one",
        )
    waivers: dict[Key, Waiver] = {}
    for number, one in enumerate(listed, 1):
        waiver = _waiver(path, number, one)
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
    try:
        with whole_file(target) as stream:
            stream.write(text)
    except OSError as error:
        raise ReadFailed(f"cannot write the baseline {quote(target)}: {error.strerror}") from None


def _document(waiver: Waiver) -> dict[str, Any]:
    made: dict[str, Any] = {name: getattr(waiver, name) for name in (*_TEXTS, "count")}
    return {**made, "reason": waiver.reason} if waiver.reason else made


def _waiver(path: Path, number: int, found: Any) -> Waiver:
    where = f"{quote(path)}, waiver {number}"
    if not isinstance(found, dict):
        raise BaselineError(f"{where}: expected an object")
    texts: dict[str, str] = {}
    for name, default in (*((name, None) for name in _TEXTS), ("reason", "")):
        text = found.get(name, default)
        if not isinstance(text, str):
            raise BaselineError(f"{where}: {quote(name)} is missing or no text")
        texts[name] = text
    count = found.get("count", 1)
    if type(count) is not int or count < 1:
        raise BaselineError(f"{where}: 'count' is no number above 0")
    if texts["severity"] not in SEVERITIES:
        raise BaselineError(f"{where}: 'severity' is not one of {', '.join(SEVERITIES)}")
    unknown = sorted(set(found) - {*texts, "count"})
    if unknown:
        raise BaselineError(f"{where}: unknown key {quote(unknown[0])}")
    return Waiver(**texts, count=count)
