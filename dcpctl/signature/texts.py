"""Logs that are text: JSON, JSON lines, CSV, TSV, and what a trainer prints to the console."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TextIO

from dcpctl import limits
from dcpctl.errors import LimitExceeded, NotALog, quote
from dcpctl.signature.log import Record, Rows

JSON_LINES, JSON, CSV, TSV, CONSOLE = "JSON lines", "JSON", "CSV", "TSV", "console"

#: Lines looked at to tell the form.
_LOOKED_AT = 40
_NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf|NaN|Inf)"
#: `loss: 1.5`, `lr=3e-4`, `grad norm: 0.4`, `tps: 1,234`.
_PAIR = re.compile(
    rf"(?<![\w.])([A-Za-z_][\w./-]*(?: [A-Za-z(][\w./()-]*)*)\s*[:=]\s*({_NUMBER})(?![\w:])"
)
#: Megatron's ` iteration      100/  500000 |`.
_ITERATION = re.compile(r"\biteration\s+(\d+)\s*/\s*\d+")
_STAMP = re.compile(r"\b(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?)")
#: Where a JSON document of several lines begins; a console's `[rank0]` is none.
_BRACKET = re.compile(r'\{\s*("|$)|\[\s*([{\[]|$)')
_ESCAPES = re.compile("\x1b\\[[0-9;]*[A-Za-z]")


def read_text(stream: TextIO, rows: Rows) -> None:
    """Read a log in whatever form it turns out to have.

    Raises:
        NotALog: it has none of the forms.
        LimitExceeded: it is one JSON document of enormous size.
    """
    lines = _lines(stream)
    head = [line for _, line in zip(range(_LOOKED_AT), lines, strict=False)]
    first = next((line.strip() for line in head if line.strip()), "")
    rest = chain(head, lines)
    if not first:
        raise NotALog(f"{quote(rows.source.path)} is empty")
    form, read = _form(first)
    rows.source.form = form
    rows.take(read(rest, rows))


def _form(first: str) -> tuple[str, Callable[[Iterable[str], Rows], Iterator[Record]]]:
    found = _decoded(first)
    if isinstance(found, dict) and not any(map(_is_rows, found.values())):
        return JSON_LINES, _json_lines
    if found is not None or _BRACKET.match(first):
        return JSON, _document
    for form, mark in ((TSV, "\t"), (CSV, ",")):
        if mark in first and not _PAIR.search(first):
            return form, _separated
    return CONSOLE, _console


def _decoded(line: str) -> object:
    """A dict or list that stands on one line; None for anything else."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, (dict, list)) else None


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _lines(stream: TextIO) -> Iterator[str]:
    """Lines, none of them longer than is sane: the rest of such a line is left out."""
    while line := stream.readline(limits.LOG_LINE_CHARACTERS):
        yield line
        while not line.endswith("\n") and len(line) == limits.LOG_LINE_CHARACTERS:
            line = stream.readline(limits.LOG_LINE_CHARACTERS)


def _json_lines(lines: Iterable[str], rows: Rows) -> Iterator[Record]:
    for line in lines:
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            yield _flat(found)
        else:
            rows.source.bad += 1


def _document(lines: Iterable[str], rows: Rows) -> Iterator[Record]:
    """A list of rows, or Hugging Face's `trainer_state.json` with its `log_history`."""
    path = quote(rows.source.path)
    kept: list[str] = []
    size = 0
    for line in lines:
        size += len(line)
        if size > limits.LOG_DOCUMENT_BYTES:
            raise LimitExceeded(
                f"{path} is a JSON document of more than {limits.LOG_DOCUMENT_BYTES:,} bytes",
                hint="write a row a line",
            )
        kept.append(line)
    try:
        found = json.loads("".join(kept))
    except (ValueError, RecursionError):
        raise NotALog(f"{path} begins as JSON, and is none") from None
    if isinstance(found, dict):
        lists = [value for value in found.values() if _is_rows(value)]
        found = found.get("log_history") or (lists[0] if len(lists) == 1 else None)
    if not isinstance(found, list):
        raise NotALog(
            f"{path} is JSON, and no list of rows",
            hint="a row a line, a list of rows, or a trainer_state.json with its log_history",
        )
    for row in found:
        if isinstance(row, dict):
            yield _flat(row)
        else:
            rows.source.bad += 1


def _flat(record: dict[str, object]) -> Record:
    """The record with `{"train": {"loss": 1}}` as `train/loss`."""
    if not any(isinstance(value, dict) for value in record.values()):
        return record
    made: dict[str, object] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            made.update({f"{name}/{inner}": number for inner, number in value.items()})
        else:
            made[name] = value
    return made


def _separated(lines: Iterable[str], rows: Rows) -> Iterator[Record]:
    reader = csv.reader(lines, delimiter="\t" if rows.source.form == TSV else ",")
    header: list[str] = []
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            rows.source.bad += 1
            continue
        cells = [cell.strip() for cell in cells]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if not header:
            header = cells
        elif cells == header:
            rows.restart()
        elif len(cells) != len(header):
            rows.source.bad += 1
        else:
            yield {name: cell for name, cell in zip(header, cells, strict=True) if cell}


def _console(lines: Iterable[str], rows: Rows) -> Iterator[Record]:
    """Lines with `name: number` pairs; all other lines of a console are none of ours."""
    for line in lines:
        plain = _ESCAPES.sub("", line)
        pairs: dict[str, object] = dict(_PAIR.findall(plain))
        iteration = _ITERATION.search(plain)
        if iteration:
            pairs["iteration"] = iteration[1]
        if len(pairs) < 2:
            continue
        stamp = _STAMP.search(plain)
        if stamp:
            pairs.setdefault("time", stamp[1])
        yield pairs
