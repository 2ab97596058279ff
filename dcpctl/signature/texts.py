"""Logs that are text: JSON, JSON lines, CSV, TSV, and what a trainer prints to the console."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TextIO

from dcpctl import limits
from dcpctl.errors import LimitExceeded, NotALog, quote
from dcpctl.signature.console import read_console
from dcpctl.signature.log import Record, Rows, number

JSON_LINES, JSON, CSV, TSV, CONSOLE = "JSON lines", "JSON", "CSV", "TSV", "console"

#: Lines looked at to tell the form.
_LOOKED_AT = 40
#: Where a JSON document of several lines begins; a console's `[rank0]` is none.
_BRACKET = re.compile(r'\{\s{0,20}("|$)|\[\s{0,20}([{\[]|$)')
#: How deep the dicts of a row may lie in each other.
_DEPTH = 6


def read_text(stream: TextIO, rows: Rows) -> None:
    """Read a log in whatever form it turns out to have.

    Raises:
        NotALog: it has none of the forms.
        LimitExceeded: it is one JSON document of enormous size.
    """
    lines = _lines(stream)
    head = [line for _, line in zip(range(_LOOKED_AT), lines, strict=False)]
    filled = [line.strip() for line in head if line.strip()]
    if not filled:
        raise NotALog(f"{quote(rows.source.path)} is empty")
    form, read = _form(filled)
    rows.source.form = form
    rows.take(read(chain(head, lines), rows))


def _form(filled: Sequence[str]) -> tuple[str, Callable[[Iterable[str], Rows], Iterator[Record]]]:
    found = _decoded(filled[0])
    if isinstance(found, dict) and _table(found) is None:
        return JSON_LINES, _json_lines
    if found is not None or _BRACKET.match(filled[0]):
        return JSON, _document
    for form, mark in ((TSV, "\t"), (CSV, ",")):
        if _tabular([line for line in filled if not line.startswith("#")], mark):
            return form, _separated
    return CONSOLE, _console


def _tabular(lines: Sequence[str], mark: str) -> bool:
    """Whether the first line names as many columns as the next has cells, numbers among them."""
    if not lines or mark not in lines[0]:
        return False
    try:
        header, *rest = csv.reader(lines[:2], delimiter=mark)
    except csv.Error:
        return False
    cells = [cell for row in rest for cell in row if cell.strip()]
    named = not any(number(cell) is not None for cell in header if cell.strip())
    if not rest:
        return named and not any(":" in cell or "=" in cell for cell in header)
    numbers = sum(number(cell) is not None for cell in cells)
    return named and len(rest[0]) == len(header) and 2 * numbers >= max(len(cells), 1)


def _decoded(line: str) -> object:
    """A dict or list that stands on one line; None for anything else."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, (dict, list)) else None


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _table(found: Mapping[str, Any]) -> list[Any] | None:
    """Rows of a document: a list in it, or columns as pandas writes them; None without.

    The list is Hugging Face's `log_history`, or the only list of rows; columns are `{"loss": {"0":
    1.5, ...}, ...}`, `{"loss": [1.5, ...], ...}` or `{"columns": [...], "data": [[...], ...]}`.
    """
    history = found.get("log_history")
    lists = [value for value in found.values() if _is_rows(value)]
    if isinstance(history, list) or len(lists) == 1:
        return history if isinstance(history, list) else lists[0]
    names, data = found.get("columns"), found.get("data")
    if isinstance(names, list) and isinstance(data, list):
        return [
            dict(zip(map(str, names), row, strict=False)) if isinstance(row, list) else row
            for row in data
        ]
    columns = list(found.values())
    if len(columns) > 1 and all(isinstance(one, list) and len(one) > 1 for one in columns):
        return [dict(zip(found, row, strict=True)) for row in zip(*columns, strict=False)]
    if len(columns) > 1 and all(isinstance(one, dict) and "0" in one for one in columns):
        rows: dict[str, dict[str, Any]] = {key: {} for key in max(columns, key=len)}
        for name, one in found.items():  # a cell that is not there costs nothing
            for key, value in one.items():
                if key in rows:
                    rows[key][name] = value
        return list(rows.values())
    return None


def _lines(stream: TextIO) -> Iterator[str]:
    """Lines, none of them longer than is sane: the rest of such a line is left out."""
    size = 0
    while line := stream.readline(limits.LOG_LINE_CHARACTERS):
        yield line
        while not line.endswith("\n") and len(line) == limits.LOG_LINE_CHARACTERS:
            size += len(line)
            if size > limits.LOG_UNBROKEN_CHARACTERS:
                raise LimitExceeded("what the log holds is not in lines")
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
    """A list of rows, or a document with one; text that only begins so is of a console."""
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
    values = sum(line.count(",") + line.count("[") + line.count("{") for line in kept)
    if values > limits.LOG_DOCUMENT_VALUES:
        raise LimitExceeded(
            f"{path} is a JSON document of {values:,} values, more than "
            f"{limits.LOG_DOCUMENT_VALUES:,}",
            hint="write a row a line",
        )
    try:
        found = json.loads("".join(kept))
    except (ValueError, RecursionError):
        rows.source.form = CONSOLE
        yield from _console(kept, rows)
        return
    if isinstance(found, dict):
        found = _table(found)
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
    """The record with `{"train": {"loss": 1}}` as `train/loss`, and `N/M: "3/9"` as its two."""
    simple = True
    for name, value in record.items():
        if isinstance(value, dict) or (isinstance(value, str) and "/" in value and "/" in name):
            simple = False
            break
    if simple:
        return record
    made: dict[str, object] = {}
    _flatten(record, "", made, 0)
    return made


def _flatten(record: dict[str, object], prefix: str, made: dict[str, object], depth: int) -> None:
    for name, value in record.items():
        if len(made) > limits.LOG_COLUMNS:
            return
        if isinstance(value, dict):
            if depth < _DEPTH:
                _flatten(value, f"{prefix}{name}/", made, depth + 1)
        elif isinstance(value, str) and "/" in value and "/" in name:
            # ms-swift writes {"global_step/max_steps": "300/500"}.
            first, _, second = name.rpartition("/")
            made[prefix + first], made[prefix + second] = value.split("/", 1)
        else:
            made[prefix + name] = value


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
    return read_console(lines, {column: quantity for quantity, column in rows.mapping.items()})
