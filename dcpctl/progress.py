"""A progress line on stderr for what takes over a second, and only where somebody watches."""

from __future__ import annotations

import math
import os
import sys
import time
from types import TracebackType
from typing import TextIO

#: Seconds before anything is shown, and between two drawings.
PATIENCE, INTERVAL = 1.0, 0.1
_BAR = 24
#: From so many hours on the time that is left is said in days.
_MOST_HOURS = 100


class Progress:
    """Counts work done and draws it. A context manager; the line is gone when it ends.

    Args:
        label: what is being done, a word or two.
        total: units of work; 0 when unknown.
        unit: `B` for bytes, else a noun for what is counted.
        stream: where to draw; stderr if None.
    """

    def __init__(
        self, label: str, total: int, *, unit: str = "B", stream: TextIO | None = None
    ) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.done = 0
        self._stream = stream or sys.stderr
        self._watched = _is_watched(self._stream)
        self._begin = time.monotonic()
        self._next = self._begin + PATIENCE
        self._drawn = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._drawn:
            self._write("")
            self._stream.write("\r")
            self._stream.flush()

    def reach(self, done: int, total: int) -> None:
        """Say that `done` units of `total` are done."""
        self.total = total
        self.advance(done - self.done)

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more units as done, and draw if it is time to."""
        self.done += amount
        if not self._watched:
            return
        now = time.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL
            self._write(self._line(now - self._begin))

    def _line(self, seconds: float) -> str:
        rate = f"{self._amount(self.done / seconds)}/s"
        if not self.total:
            return f"{self.label}  {self._amount(self.done)}  {rate}"
        share = min(1.0, self.done / self.total)
        bar = "=" * int(share * _BAR)
        line = f"{self.label}  [{bar:-<{_BAR}}] {share:4.0%}  {rate}"
        if not 0 < self.done < self.total:
            return line
        return f"{line}  {_span(seconds * (self.total - self.done) / self.done)} left"

    def _amount(self, number: float) -> str:
        if self.unit != "B":
            return f"{number:,.0f} {self.unit}"
        return f"{number / 1e6:,.0f} MB"

    def _write(self, line: str) -> None:
        """Draw over the last line with blanks, not with an escape code that NO_COLOR forbids."""
        self._stream.write("\r" + line.ljust(self._drawn))
        self._stream.flush()
        self._drawn = len(line)


def _span(seconds: float) -> str:
    """A time to wait as a clock has it: `0:07`, `12:30`, `1:02:30`; days from 100 hours on."""
    whole = math.ceil(seconds)
    hours, rest = divmod(whole, 3600)
    if hours >= _MOST_HOURS:
        return f"{hours // 24:,} days"
    minutes = f"{rest // 60:02}" if hours else f"{rest // 60}"
    return f"{f'{hours}:' if hours else ''}{minutes}:{rest % 60:02}"


def _is_watched(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False
