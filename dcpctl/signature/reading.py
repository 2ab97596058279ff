"""Files, directories of event files and standard input, as one log."""

from __future__ import annotations

import gzip
import stat
import sys
import zlib
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path

from dcpctl.errors import NotALog, ReadFailed, quote
from dcpctl.signature import events
from dcpctl.signature.columns import named_columns
from dcpctl.signature.log import Log, Rows, Source
from dcpctl.signature.texts import read_text

#: The name of standard input.
STDIN = "-"
_GZIP = b"\x1f\x8b"


def read_logs(paths: Sequence[str], mapping: Mapping[str, str] | None = None) -> Log:
    """Read logs one after another: each file is taken for what another process wrote.

    Args:
        paths: files of text, gzip or not, or of TensorBoard events, directories of these, `-` for
            stdin.
        mapping: quantity -> column, where columns have unusual names.

    Raises:
        NotALog: a file has no known form, or none has a column with a training loss.
        ReadFailed: a file cannot be read.
        MissingDependency: an event file, and TensorBoard is not installed.
    """
    log = Log(name=", ".join("standard input" if path == STDIN else path for path in paths))
    for path in paths:
        for one in _files(path):
            rows = Rows(log, Source(one, ""), mapping or {})
            try:
                _read(one, rows)
            except OSError as error:
                raise ReadFailed(f"cannot read {quote(one)}: {error.strerror}") from None
    log.finish()
    if not len(log):
        raise NotALog(
            f"no training loss in {', '.join(quote(path) for path in paths[:5])}",
            hint="--map loss=COLUMN says where it is; "
            + named_columns(name for one in log.sources for name in one.names),
        )
    return log


def _files(path: str) -> list[str]:
    if path == STDIN or not Path(path).is_dir():
        return [path]
    found = events.event_files(Path(path))
    if not found:
        raise NotALog(
            f"no event files in the directory {quote(path)}", hint="name the log files themselves"
        )
    return [str(one) for one in found]


def _read(path: str, rows: Rows) -> None:
    if path == STDIN:
        if isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8", errors="replace", newline="\n")
        read_text(sys.stdin, rows)
        return
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):
        raise NotALog(
            f"{quote(path)} is no file but a {_kind(mode)}",
            hint="what is not a file is read from standard input: dcpctl signature - < it",
        )
    if events.MARK in Path(path).name:
        events.read_events(Path(path), rows)
        return
    with Path(path).open("rb") as raw:
        opened = gzip.open if raw.read(2) == _GZIP else open
    with opened(path, "rt", encoding="utf-8-sig", errors="replace", newline="\n") as stream:
        try:
            if "\0" in stream.read(4096):
                raise NotALog(f"{quote(path)} is no text")
            stream.seek(0)
            read_text(stream, rows)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            if not rows.source.rows:
                raise NotALog(f"{quote(path)} is no whole gzip file: {error}") from None
            rows.source.bad += 1  # cut off while a process wrote it


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISFIFO, "FIFO"), (stat.S_ISSOCK, "socket"), (stat.S_ISCHR, "character device"),
        (stat.S_ISBLK, "block device"),
    ):  # fmt: skip
        if test(mode):
            return name
    return "directory"
