"""A training log in columns, whatever it was written as."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import pairwise
from math import isfinite
from typing import cast

from dcpctl import limits
from dcpctl.signature.columns import (
    EPOCH,
    GRAD_NORM,
    LOSS,
    LR,
    QUANTITIES,
    SESSION,
    STEP,
    THROUGHPUT,
    TIME,
    meaning,
)

#: What is compared before and after a resume.
MEASURED = (LOSS, GRAD_NORM, LR, THROUGHPUT)

#: What the position of a row was taken from: a column of steps; the rows, which are counted, and
#: counted again where the epoch goes back; or nothing but the rows.
BY_STEP, BY_EPOCH, BY_ROW = "step", "epoch", "row"
#: Rows that a log may take from another column before the one that turns out to be meant.
_MISTAKEN = 10

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
        names: every column that the file has, as far as there is room for.
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
        placed: what the steps of the rows are: `step`, `epoch` or `row`.
        vague: rows that go back would not show: nothing places them, or an epoch that most share.
    """

    columns: dict[str, list[Value]] = field(
        default_factory=lambda: {name: [] for name in (STEP, *MEASURED, TIME, EPOCH)}
    )
    sessions: list[int] = field(default_factory=list)
    name: str = ""
    sources: list[Source] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    placed: str = BY_STEP
    vague: bool = False

    def __len__(self) -> int:
        return len(self.sessions)

    @property
    def steps(self) -> list[float]:
        """The step of each row; `finish` sees to it that each has one."""
        return cast("list[float]", self.columns[STEP])

    @property
    def unit(self) -> str:
        """What a position is called: a step, or a row where the log tells no steps."""
        return "step" if self.placed == BY_STEP else "row"

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
        if self.sessions and not self.has(STEP):
            self._count()
        steps = self.columns[STEP]
        for row, step in enumerate(steps):
            if step is None:
                steps[row] = steps[row - 1] if row else 0.0

    def _count(self) -> None:
        """Number the rows; where the epoch goes back, the number goes back with it."""
        epochs = self.columns[EPOCH]
        self.placed = BY_EPOCH if None not in epochs else BY_ROW
        same = sum(before == after for before, after in pairwise(epochs))
        self.vague = self.placed == BY_ROW or 2 * same > len(epochs)
        if self.placed == BY_ROW:
            self.columns[STEP] = [float(row + 1) for row in range(len(epochs))]
            self.notes.append("no column holds steps; rows are counted instead")
            return
        trail: list[tuple[float, float]] = []
        made: list[Value] = []
        for epoch in epochs:
            now = epoch or 0.0
            place = trail[-1][1] if trail else 0.0
            if trail and trail[-1][0] > now:
                while trail and trail[-1][0] >= now:
                    place = trail.pop()[1] - 1
            trail.append((now, place + 1))
            made.append(place + 1)
        self.columns[STEP] = made
        self.notes.append(
            "no column holds steps; rows are counted, and go back where the epoch does"
        )


class Rows:
    """Takes records out of one file into a log."""

    def __init__(self, log: Log, source: Source, mapping: Mapping[str, str]) -> None:
        self.log, self.source, self.mapping = log, source, mapping
        self._begin = len(log)
        self._first = (log.sessions[-1] + 1) if log.sessions else 0
        self._named: dict[str, int] = {}
        self._name = ""
        self._restarts = 0
        self._costs: dict[str, float] = {}
        self._steps: list[tuple[float, int, str]] = []
        log.sources.append(source)

    def restart(self) -> None:
        """Say that another process writes from here on: a header stands in the middle."""
        self._restarts += 1

    def take(self, records: Iterable[Record]) -> None:
        """Add the records; which columns hold what is found out as new columns turn up."""
        source = self.source
        for record in records:
            if not record.keys() <= source.names.keys():
                self._learn(record)
            values = {
                quantity: _READ.get(quantity, number)(record[column])
                for quantity, column in source.columns.items()
                if quantity not in (STEP, SESSION) and column in record
            }
            if not any(values.get(name) is not None for name in MEASURED):
                source.without += 1
                continue
            values[STEP] = self._step(record)
            before = len(self.log)
            self.log.append(values, self._session(record))
            source.rows += len(self.log) - before

    def _learn(self, record: Record) -> None:
        """Look at the names that are new, and at no name twice."""
        names, columns = self.source.names, self.source.columns
        for name in record:
            if name in names or len(names) >= limits.LOG_COLUMNS:
                continue
            names[name] = None
            mapped = [quantity for quantity, column in self.mapping.items() if column == name]
            for quantity in mapped:
                self._choose(quantity, name, -1.0)
            found = None if mapped else meaning(name)
            if found is not None and found[0] not in self.mapping:
                self._choose(found[0], name, found[1])
        self.source.columns = {name: columns[name] for name in QUANTITIES if name in columns}

    def _choose(self, quantity: str, name: str, cost: float) -> None:
        if quantity == STEP:
            self._steps.append((cost, len(self._steps), name))
            self._steps.sort()
            return
        if cost >= self._costs.get(quantity, float("inf")):
            return
        mistaken = len(self.log) - self._begin
        if quantity in self._costs and quantity in MEASURED and mistaken <= _MISTAKEN:
            # What was read so far was something else that has a similar name.
            self.log.columns[quantity][self._begin :] = [None] * mistaken
        self._costs[quantity] = cost
        self.source.columns[quantity] = name

    def _step(self, record: Record) -> Value:
        """The step by the best column that this record has; fractions are no steps."""
        for cost, _, name in self._steps:
            if name in record:
                step = number(record[name]) if cost < 0 else counted(record[name])
                if step is not None and abs(step) < _STEPS:
                    if STEP not in self.source.columns:
                        self.source.columns = {STEP: name, **self.source.columns}
                    return step
        return None

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
    """Return a step, a whole number of a size that training has, or the N of `N/M`; else None."""
    found = number(value.partition("/")[0] if isinstance(value, str) else value)
    if found is None or not abs(found) < _STEPS or found != int(found):
        return None
    return found


#: What reads a quantity, where it is not `number`.
_READ = {TIME: moment}
