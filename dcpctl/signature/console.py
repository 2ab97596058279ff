"""What a trainer prints: `name: number` pairs, printed dicts, and the counters of progress bars."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dcpctl import limits
from dcpctl.signature.columns import EPOCH, PROGRESS, SESSION, STEP, TIME, meaning
from dcpctl.signature.log import Record, number

#: Control sequences of terminals: colours, cursor moves, titles and hyperlinks.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,2048}(?:\x07|\x1b\\)"
    r"|[()][0-9A-B]|[=>78cDEHM])"
)
_NUMBER = (
    r"[-+]?(?:\d{1,3}(?:,\d{3}){1,9}(?!\d)(?:\.\d{0,40})?|\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,5})?"
    r"|[-+]?(?:nan|inf|NaN|Inf|Infinity)(?![a-zA-Z])"
)
#: A value with what parts it from its name. Values may be quoted, in brackets, or printed as NumPy
#: and torch print scalars; after white space alone no parenthesis may close behind one, as in
#: `LR (group 0)=1e-3`.
_VALUE = re.compile(
    rf"""(?:(?P<sign>['"]?\s{{0,40}}[:=]\s{{0,40}})|(?:(?<=[\s\[|])|^))"""
    rf"""(?P<open>['"\[]|(?:np\.float\d\d|tensor|array)\()?(?P<value>{_NUMBER})"""
    r"(?:\s{0,20}/\s{0,20}(?P<total>\d{1,15}|\?{3}))?"
    r"(?P<after>[\w%]|[:.](?=[^\s])|-\d|\))?"
)
_STAMP = re.compile(r"(?<!\d)(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)")
#: What a name cannot reach over: the field before it.
_FIELD = re.compile(r"[|,;{}<>\t\"]|\s-\s|\s{2,}|\]\s*:?|\[|:(?=\s)|\)\s+(?=[A-Za-z_])|—|•")
_LETTER = re.compile("[A-Za-z_]")
#: Levels that loggers write before a message without anything between.
_LEVELS = re.compile(r"^(?:(?:INFO|SUCCESS|WARNING|DEBUG|ERROR|TRAIN|Train:)\s+)+")
#: A line about an evaluation says so before its first number.
_EVALUATION = re.compile(
    r"(?i)(?<![a-z_/.-])(?:eval|evaluat(?:e|ion|ing)|val|valid(?:ate|ation|ating)?)(?![a-z_/])"
)
#: Cost of a name up to which a console's number is taken for the step.
_FETCHED = 1.5
#: What says where a row is, and not how the training goes.
_PLACES = (STEP, TIME, EPOCH, SESSION)
#: Longest name, in characters.
_LONGEST = 120


def read_console(lines: Iterable[str], mapped: Mapping[str, str] | None = None) -> Iterator[Record]:
    """Yield a record for each line, or part of one, that tells a metric.

    A line or bar that tells a step and no metric is the step of the metrics below it, until the
    next: so write Composer, OLMo-core and fms-fsdp, and the Trainer of transformers between the
    states of its bar.

    Args:
        lines: as they were written, with control sequences and carriage returns.
        mapped: columns whose names do not say their quantity, and that.
    """
    place = _Place(mapped or {})
    for line in lines:
        plain = _ESCAPES.sub("", line[: limits.LOG_CONSOLE_CHARACTERS])
        for part in plain.split("\r"):
            yield from place.take(part)
    yield from place.rest()


class _Place:
    """Where in a run the lines are."""

    def __init__(self, mapped: Mapping[str, str]) -> None:
        self._mapped = mapped
        self._carried: dict[str, object] = {}
        self._taken: set[str] = set()
        self._counter = (0, 0, 0)  # what bars before this one counted, and its N and M
        self._cleared = False
        self._held: list[dict[str, object]] = []
        self._drawn: dict[str, object] = {}

    def take(self, text: str) -> Iterator[Record]:
        """Yield what a part of a line tells, and what was waiting for it."""
        if not text.strip():
            # tqdm writes a line by wiping its bar, and draws the bar again below the line.
            self._cleared = bool(self._counter[2]) and not text.endswith("\n")
            return
        cleared, self._cleared = self._cleared, False
        stamp = _STAMP.search(text)
        found, counter = pairs(text.replace(stamp[1], " | ") if stamp else text)
        if found is None:
            return
        if stamp:
            found.setdefault("time", stamp[1])
        known = self._known(found)
        if counter is not None and STEP not in known.values():
            yield from self._bar(found, known, counter)
        elif measured := [name for name, quantity in known.items() if quantity not in _PLACES]:
            if STEP in known.values():
                yield found
            elif cleared:
                self._held.append(found)
            else:
                yield from self._below(found, measured, whole="{" in text)
        if STEP in known.values() and counter is None:
            self._carry({name: found[name] for name in known if known[name] in (STEP, EPOCH)})
            self._taken.update(name for name in known if known[name] not in _PLACES)

    def rest(self) -> Iterator[Record]:
        """Yield what still waits at the end."""
        yield from ({**self._carried, **one} for one in self._held)
        if self._drawn:
            yield self._drawn

    def _known(self, found: Mapping[str, object]) -> dict[str, str]:
        told = {name: meaning(name) for name in found}
        known = {
            name: one[0]
            for name, one in told.items()
            # `Resuming at step 300` is prose.
            if one is not None and (one[0] != STEP or one[1] <= _FETCHED)
        }
        known.update((name, self._mapped[name]) for name in found if name in self._mapped)
        return known

    def _carry(self, steps: dict[str, object]) -> None:
        """Remember a step, unless the one in hand has a plainer name: another count below it."""
        if steps != self._carried and (not self._carried or _cost(steps) <= _cost(self._carried)):
            self._carried, self._taken = steps, set()

    def _below(
        self, found: dict[str, object], names: list[str], *, whole: bool
    ) -> Iterator[Record]:
        """Yield metrics that tell no step with that of the line above.

        Below a step each name is told once: what comes again is a summary. Dicts are rows.
        """
        if self._carried and not whole:
            names = [name for name in names if name not in self._taken]
            self._taken.update(names)
        if names:
            yield {**self._carried, **found}

    def _bar(
        self, found: dict[str, object], known: dict[str, str], counter: _Counter
    ) -> Iterator[Record]:
        """Count with a bar, over bars that begin again as one of each epoch does."""
        done, total = counter.done, counter.total
        epoch = next((number(found[name]) for name in known if known[name] == EPOCH), None)
        before, last, whole = self._counter
        if epoch is not None and epoch == int(epoch):
            # Lightning's bars count epochs from 0; `[epoch=1][batch=3/9]` is Composer's.
            before = (int(epoch) - (counter.name != PROGRESS)) * total
        elif total != whole:
            before = 0
        elif done < last and last >= whole:
            before += whole
        self._counter = (before, done, total)
        if not done:
            return  # what stands beside a bar that has not begun is of another one
        known[counter.name] = STEP
        step: dict[str, object] = {counter.name: before + done}
        self._carry(step)
        yield from ({**one, **step} for one in self._held)
        self._held = []
        if self._drawn and self._drawn.items() & step.items() != step.items():
            yield self._drawn
            self._drawn = {}
        if any(quantity not in _PLACES for quantity in known.values()):
            # Drawn first with the metrics of the step before, and then with its own.
            self._drawn = {**found, **step}


def _cost(steps: Iterable[str]) -> float:
    costs = [told[1] for name in steps if (told := meaning(name)) and told[0] == STEP]
    return min(costs, default=0.0)


@dataclass(frozen=True)
class _Counter:
    """An `N/M` that may begin again with each epoch.

    Attributes:
        name: `batch` or a name with it, or `PROGRESS` where it has none.
        done: N.
        total: M.
    """

    name: str
    done: int
    total: int


def pairs(text: str) -> tuple[dict[str, object] | None, _Counter | None]:
    """Return the pairs of a text, and its counter of batches.

    Returns:
        None for the pairs where the text is about an evaluation.
    """
    found: dict[str, object] = {}
    counter: _Counter | None = None
    end = 0
    for match in _VALUE.finditer(text):
        scalar = match["open"] is not None and match["open"].endswith("(")
        if match["after"] and not (scalar and match["after"] == ")"):
            continue
        if not found and counter is None and _EVALUATION.search(text[: match.start()]):
            return None, None
        name = _name(text[max(end, match.start() - _LONGEST) : match.start()])
        end = match.end()
        value, total = match["value"], match["total"]
        counts = bool(total) and total.isdigit() and value.isdigit()
        if counts and counter is None and (not name or _is_batch(name)):
            counter = _Counter(name or PROGRESS, int(value), int(total))
        elif name:
            # ms-swift prints {'global_step/max_steps': '300/500'}.
            found.setdefault(name.rpartition("/")[0] or name if counts else name, value)
    return found, counter


def _is_batch(name: str) -> bool:
    told = meaning(name)
    return told is not None and told[0] == STEP and "batch" in name.lower()


def _name(label: str) -> str:
    """The name that ends a label: what stands after the last thing that parts fields."""
    label = label.rstrip().rstrip("'\"").rstrip()
    start = 0
    for match in _FIELD.finditer(label):
        start = match.end()
    name = _LEVELS.sub("", label[start:].strip(" '\"*#>~`-")).rstrip(".:")
    letter = _LETTER.search(name)
    return name[letter.start() :] if letter else ""
