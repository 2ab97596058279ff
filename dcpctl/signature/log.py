"""A training log in columns, whatever it was written as."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from math import isfinite

from dcpctl.signature.columns import (
    GRAD_NORM,
    LOSS,
    LR,
    SESSION,
    STEP,
    THROUGHPUT,
    TIME,
    choose,
)

#: What is compared before and after a resume.
MEASURED = (LOSS, GRAD_NORM, LR, THROUGHPUT)

#: More steps than any run has, and few enough to be exact as floats.
_STEPS = 1e15

#: Column name -> what stood in it: a number, a text, or anything else that JSON has.
Record = Mapping[str, object]
Value = float | None


@dataclass
class Source:
    """A file that was read.

    Attributes:
        path: as it was given; `-` for standard input.
        form: `JSON lines`, `JSON`, `CSV`, `TSV`, `TensorBoard` or `console`.
        columns: quantity -> the column that it was taken from.
        names: every column that the file has.
        rows: rows taken.
        without: rows without a training loss, such as those of an evaluation.
        bad: rows that could not be read.
    """

    path: str
    form: str
    columns: dict[str, str] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)
    rows: int = 0
    without: int = 0
    bad: int = 0


@dataclass
class Log:
    """Rows of one or several files, in the order in which they were written.

    Attributes:
        columns: quantity -> its value in each row; None where the row has none. NaN is a value.
        sessions: number of the process that wrote each row, as far as the log says so.
        name: of all of it, as it was given.
        sources: the files.
        notes: what was done to the rows, for people.
    """

    columns: dict[str, list[Value]] = field(
        default_factory=lambda: {name: [] for name in (STEP, *MEASURED, TIME)}
    )
    sessions: list[int] = field(default_factory=list)
    name: str = ""
    sources: list[Source] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sessions)

    @property
    def steps(self) -> list[float]:
        """The step of each row; `finish` sees to it that each has one."""
        return [0.0 if step is None else step for step in self.columns[STEP]]

    def has(self, quantity: str) -> bool:
        """Whether any row has this quantity."""
        return any(value is not None for value in self.columns[quantity])

    def append(self, values: Mapping[str, Value], session: int) -> None:
        """Add a row, or fill up the last one: many loggers write a row for each quantity."""
        if self.sessions and session == self.sessions[-1] and self._completes(values):
            for name, value in values.items():
                if value is not None:
                    self.columns[name][-1] = value
            return
        for name, column in self.columns.items():
            column.append(values.get(name))
        self.sessions.append(session)

    def _completes(self, values: Mapping[str, Value]) -> bool:
        step = values.get(STEP)
        if step is None or step != self.columns[STEP][-1]:
            return False
        return all(
            value is None or self.columns[name][-1] in (None, value)
            for name, value in values.items()
            if name in MEASURED
        )

    def finish(self) -> None:
        """Keep the rows with a loss, and give a number to rows whose log knows no steps."""
        kept = [row for row, loss in enumerate(self.columns[LOSS]) if loss is not None]
        for name, column in self.columns.items():
            self.columns[name] = [column[row] for row in kept]
        self.sessions = [self.sessions[row] for row in kept]
        steps = self.columns[STEP]
        if self.sessions and not self.has(STEP):
            self.columns[STEP] = [float(row + 1) for row in range(len(kept))]
            self.notes.append("no column holds steps; rows are counted instead")
        else:
            for row, step in enumerate(steps):
                if step is None:
                    steps[row] = steps[row - 1] if row else 0.0


class Rows:
    """Takes records out of one file into a log."""

    def __init__(self, log: Log, source: Source, mapping: Mapping[str, str]) -> None:
        self.log, self.source = log, source
        self._mapping = mapping
        self._first = (log.sessions[-1] + 1) if log.sessions else 0
        self._named: dict[str, int] = {}
        self._name = ""
        self._restarts = 0
        log.sources.append(source)

    def restart(self) -> None:
        """Say that another process writes from here on: a header stands in the middle."""
        self._restarts += 1

    def take(self, records: Iterable[Record]) -> None:
        """Add the records; which columns hold what is found out as new columns turn up."""
        source = self.source
        for record in records:
            if not record.keys() <= source.names.keys():
                source.names.update(dict.fromkeys(record))
                source.columns = choose(source.names, self._mapping)
            values = {
                quantity: _READ.get(quantity, number)(record[column])
                for quantity, column in source.columns.items()
                if quantity != SESSION and column in record
            }
            if not any(values.get(name) is not None for name in MEASURED):
                source.without += 1
                continue
            before = len(self.log)
            self.log.append(values, self._session(record))
            source.rows += len(self.log) - before

    def _session(self, record: Record) -> int:
        column = self.source.columns.get(SESSION)
        name = None if column is None else record.get(column)
        if name is not None:
            self._name = str(name)
            self._named.setdefault(self._name, len(self._named))
        return self._first + self._named.get(self._name, 0) + self._restarts


def number(value: object) -> Value:
    """Return a value of a log as a float; None where it is none."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value.replace(",", "") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None


def moment(value: object) -> Value:
    """Return a time, a number of seconds or milliseconds or an ISO text, in seconds."""
    found = number(value)
    if found is not None:
        return (found / 1000 if found > 1e11 else found) if isfinite(found) else None
    if not isinstance(value, str):
        return None
    try:
        made = datetime.fromisoformat(value.strip().replace("Z", "+00:00").replace(",", "."))
        return (made if made.tzinfo else made.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return None


def counted(value: object) -> Value:
    """Return a step, which is finite, and of a size that training has; None for anything else."""
    found = number(value)
    return found if found is not None and abs(found) < _STEPS else None


#: What reads a quantity, where it is not `number`.
_READ = {STEP: counted, TIME: moment}
