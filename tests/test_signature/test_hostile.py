"""Logs that are made to cost time or memory, and things that are no logs."""

from __future__ import annotations

import gzip
import io
import json
import os
import time
from pathlib import Path

import pytest

from dcpctl import limits
from dcpctl.errors import DcpctlError, LimitExceeded, NotALog
from dcpctl.signature.engine import diagnose
from dcpctl.signature.log import Log, Rows, Source
from dcpctl.signature.reading import read_logs
from dcpctl.signature.texts import read_text

#: Seconds that any of these may take; they take a tenth, on a machine with nothing else to do.
_SOON = 10.0


def read(text: str) -> Log:
    log = Log()
    try:
        read_text(io.StringIO(text, newline="\n"), Rows(log, Source("made", ""), {}))
        log.finish()
        diagnose(log)
    except DcpctlError:
        pass
    return log


def wide(rows: int, columns: int) -> str:
    names = [f"train/layers.{n}/norm" for n in range(columns)]
    return "\n".join(
        json.dumps({"step": row, "loss": 1.5, **dict.fromkeys(names, 0.5)}) for row in range(rows)
    )


HOSTILE = {
    "2,000 columns": lambda: wide(60, 2_000),
    "new columns in each row": lambda: "\n".join(
        json.dumps({"step": row, "loss": 1.5, **{f"c{row}_{n}": 1 for n in range(100)}})
        for row in range(500)
    ),
    "a long name": lambda: f"{'a_' * 200_000}loss: 1.5 step: 3",
    "many words": lambda: "word " * 60_000 + "\n" + "word " * 60_000 + "loss",
    "many colons": lambda: ": " * 100_000,
    "many digits": lambda: "loss: " + "1" * 100_000 + "x",
    "many thousands": lambda: "loss: " + "1,111" * 20_000,
    "many spaces": lambda: "loss" + " " * 100_000 + ": 1.5",
    "many pairs": lambda: "loss: 1.5 " * 10_000,
    "many bars": lambda: "\r 50%|█    | 5/10 [00:10<00:10]" * 10_000,
    "escapes": lambda: "\x1b[" * 50_000 + "\x1b]" * 20_000 + "\x1b[31m" * 10_000,
    "brackets": lambda: "[{" * 50_000,
    "nested dicts": lambda: '{"a":' * 50_000 + "1" + "}" * 50_000,
    "quotes": lambda: "'\"" * 50_000,
    "steps that go back": lambda: "\n".join(
        f"step: {n % 21} loss: {n % 7}.5 grad_norm: 0.5" for n in range(5_000)
    ),
    "a resume in each twentieth row": lambda: "\n".join(
        f"step: {n - n // 25 * 5} loss: {n % 7}.5" for n in range(5_000)
    ),
    "huge numbers": lambda: "step: 1e999 loss: 1e999\nstep: 9e14 loss: -1e308\n" * 1_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_soon_done(name: str) -> None:
    text = HOSTILE[name]()
    begin = time.perf_counter()
    read(text)
    assert time.perf_counter() - begin < _SOON


def test_names_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(
        "dcpctl.signature.log.meaning", lambda name: looked.append(name) or ("loss", 1.0)
    )
    read(wide(50, 30))
    assert len(looked) == 32


def test_columns_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_COLUMNS", 10)
    log = read(wide(30, 50))
    assert len(log.sources[0].names) == 10
    assert len(log) == 30


def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_LINE_CHARACTERS", 1 << 10)
    monkeypatch.setattr(limits, "LOG_UNBROKEN_CHARACTERS", 1 << 12)
    with pytest.raises(LimitExceeded):
        read_text(io.StringIO("x" * (1 << 14)), Rows(Log(), Source("made", ""), {}))


def test_gzip(samples: Path, tmp_path: Path) -> None:
    text = (samples / "logs" / "lost.jsonl").read_bytes()
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(text))
    assert len(read_logs([str(path)])) == 230
    path.write_bytes(gzip.compress(text)[:-500])
    cut = read_logs([str(path)])
    assert 0 < len(cut) < 230
    assert cut.sources[0].bad == 1
    path.write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(NotALog):
        read_logs([str(path)])


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/zero")):
        with pytest.raises(NotALog, match=r"FIFO|device") as caught:
            read_logs([str(path)])
        assert "dcpctl signature - <" in str(caught.value.hint)
