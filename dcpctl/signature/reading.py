"""Files, directories of event files and standard input, as one log."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path

from dcpctl.errors import NotALog, ReadFailed, quote
from dcpctl.signature import events
from dcpctl.signature.log import Log, Rows, Source
from dcpctl.signature.texts import read_text

#: The name of standard input.
STDIN = "-"


def read_logs(paths: Sequence[str], mapping: Mapping[str, str] | None = None) -> Log:
    """Read logs one after another: each file is taken for what another process wrote.

    Args:
        paths: files of text or TensorBoard events, directories of event files, `-` for stdin.
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
        names = dict.fromkeys(name for one in log.sources for name in one.names)
        raise NotALog(
            f"no training loss in {', '.join(quote(path) for path in paths[:5])}",
            hint="--map loss=COLUMN says where it is; "
            + (
                f"the columns are {', '.join(list(names)[:12])}"
                if names
                else "there are no columns"
            ),
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
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")
        read_text(sys.stdin, rows)
    elif events.MARK in Path(path).name:
        with Path(path).open("rb"):  # TensorBoard's reader says nothing of a file that is not there
            pass
        events.read_events(Path(path), rows)
    else:
        with Path(path).open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            if "\0" in stream.read(4096):
                raise NotALog(f"{quote(path)} is no text")
            stream.seek(0)
            read_text(stream, rows)
