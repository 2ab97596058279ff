"""Where in its run a save stands, as far as the name of its directory says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

STEP, ITERATION, BATCH = "step", "iteration", "batch"
SAMPLES, TOKENS, EPOCH = "samples", "tokens", "epoch"
DATE, NUMBER = "date", "number"
#: Units whose number is one of the job's steps.
STEPS = frozenset({STEP, ITERATION, BATCH})

#: How much a name says of its being a save's: nothing, a date, a number alone, a word for a save
#: and a number, a unit and a number.
UNSAID, DATED, NUMBERED, CALLED, UNIT = range(5)

# The words that jobs count by. `ba` and `ep` are Composer's, `it` is Keras' and fairseq's.
_WORDS = {
    STEP: "steps?|updates?",
    BATCH: "ba|batch(?:es)?",
    ITERATION: "it|iters?|itrs?|iterations?",
    SAMPLES: "samples?",
    TOKENS: "tok|tokens?",
    EPOCH: "ep|epochs?",
}
_WHOSE = "(?:global|train(?:er|ing)?|total|consumed|cur(?:rent)?|opt(?:im(?:izer)?)?)?"
_UNITS = {unit: re.compile(f"{_WHOSE}(?:{words})") for unit, words in _WORDS.items()}
# `epochstep4` is the fourth step of an epoch, and says nothing of the run's.
_WITHIN_EPOCH = re.compile(f"epoch(?:{_WORDS[STEP]}|{_WORDS[ITERATION]}|{_WORDS[BATCH]})")
_SAVE = re.compile("ckpts?|chkpts?|checkpoints?|saves?|snapshots?")
_LETTERS = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+")
_NUMBER = re.compile(r"(?<!\d)(\d{1,15})(?:\.(\d{1,15}))?([kK](?![a-zA-Z]))?(?!\d)")
_DATE = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])"
    r"(?:[-_.T ]*([01]\d|2[0-3])([-_.:h]?)([0-5]\d)(?:\6([0-5]\d)(?:\.(\d{1,6}))?)?)?Z?(?!\d)"
)
_LONGEST = 255


@dataclass(frozen=True, slots=True)
class Position:
    """Where a save stands in its run.

    Attributes:
        unit: what its number counts: one of `STEPS`, `samples`, `tokens`, `epoch`; `date`; or
            `number`, where no word says what it is.
        value: the number; of a date its digits, year first, down to microseconds.
        epoch: the epoch that the name gives beside it.
        strength: how much the name says of its being a save's; `UNSAID` for a number that no word
            introduces, such as that of `pytorch_model_fsdp_0`.
    """

    unit: str
    value: int
    epoch: int | None = None
    strength: int = UNSAID

    @property
    def step(self) -> int | None:
        """The job's step; None where the number is of something else, or may be."""
        return self.value if self.unit in STEPS else None

    @property
    def words(self) -> str:
        """The position as people say it: `step 4`, `epoch 1`, `2026-07-12 10:11:12`."""
        if self.unit == DATE:
            digits = str(self.value)
            day = f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}"
            time = f" {digits[8:10]}:{digits[10:12]}:{digits[12:14]}"
            return day + time * (digits[8:14] != "000000")
        return f"{self.unit} {self.value:,}"


def position_of(name: str) -> Position | None:
    """The position that a directory's name gives; None where it holds no number.

    `step-8500`, `iter_0000003`, `ep0-ba2`, `epoch1epochstep4globalstep4` (that of the run counts),
    `val_loss=2.33-step=4-last`. A number that no word introduces may be that of anything, and a
    date is no step.
    """
    name = name[:_LONGEST]
    found: dict[str, int] = {}
    strength = UNSAID
    dated, rest = _dated(name)
    for words, number, after, leads in _numbers(rest):
        unit = _unit(words, after)
        if unit is not None:
            found[unit] = number
        elif not words or not words[-1]:
            found.setdefault(NUMBER, number)
            strength = max(strength, NUMBERED if leads else UNSAID)
        elif _SAVE.fullmatch(words[-1]):
            found[NUMBER] = number
            strength = CALLED
        elif strength == UNSAID and not _WITHIN_EPOCH.fullmatch("".join(words[-2:])):
            found[NUMBER] = number
    for unit in (STEP, BATCH, ITERATION, SAMPLES, TOKENS, EPOCH):
        if unit in found:
            epoch = None if unit == EPOCH else found.get(EPOCH)
            return Position(unit, found[unit], epoch, UNIT)
    if dated is not None:
        words = _words(name[: name.find(str(dated)[:4])])
        saved = bool(words) and _SAVE.fullmatch(words[-1]) is not None
        return Position(DATE, dated, strength=CALLED if saved else DATED)
    if NUMBER in found:
        return Position(NUMBER, found[NUMBER], strength=strength)
    return None


def _dated(name: str) -> tuple[int | None, str]:
    """The date in a name, and the name without it; a number that a unit introduces is no date."""
    match = _DATE.search(name)
    if match is None or _unit(_words(name[: match.start()]), "") is not None:
        return None, name
    year, _, month, day, hour, _, minute, second, fraction = match.groups()
    digits = f"{year}{month}{day}{hour or '00'}{minute or '00'}{second or '00'}"
    digits += (fraction or "").ljust(6, "0")
    return int(digits), f"{name[: match.start()]}\0{name[match.end() :]}"


def _numbers(name: str) -> Iterator[tuple[list[str], int, str, bool]]:
    """Every number: the words before it, the number, the word after it, whether it leads the name.

    Fractions such as a loss of 2.33 are left out.
    """
    at = 0
    for match in _NUMBER.finditer(name):
        before, at = name[at : match.start()], match.end()
        if match[2] is not None and match[2].strip("0"):
            continue
        following = _NUMBER.search(name, at)
        tail = name[at : following.start() if following else None]
        # The word after a number is its own only where no other number follows that word.
        after = _words(tail)[:1] if following is None or len(_words(tail)) > 1 else []
        leads = match.start() == 0 and (not name[at:] or not name[at].isalpha())
        number = int(match[1]) * (1000 if match[3] else 1)
        yield _words(before), number, (after or [""])[0], leads


def _words(text: str) -> list[str]:
    return [word.lower() for word in _LETTERS.findall(text.rpartition("\0")[2])]


def _unit(words: list[str], after: str) -> str | None:
    last = words[-1] if words else ""
    for unit, pattern in _UNITS.items():
        if pattern.fullmatch(last):
            within = unit in STEPS and words[-2:-1] in (["epoch"], ["ep"])
            return None if within else unit
    # `4ba`, `100_steps`; a word of a letter or two says too little behind a number.
    for unit, pattern in _UNITS.items():
        if not words and pattern.fullmatch(after):
            return unit
    return None
