"""The numbers that an optimizer's constructor accepts as its hyperparameters.

`_data/optimizer_ranges.json` holds the intervals of all of torch.optim's; tools/
make_optimizer_data.py finds them by trying. `load_state_dict` does not ask for them: what a
checkpoint's groups hold is used as it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from dcpctl.model.optimizer.catalogue import DATA
from dcpctl.model.optimizer.source import plain_number

#: What no optimizer makes sense of where it is NaN or infinite.
_ALWAYS_FINITE = ("lr", "betas", "eps", "weight_decay", "momentum")
#: Schedules end beside zero.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """The numbers from `low` to `high`.

    Attributes:
        low: least number.
        with_low: it belongs to them.
        high: largest number.
        with_high: it belongs to them.
    """

    low: float
    with_low: bool
    high: float
    with_high: bool

    def holds(self, value: float) -> bool:
        """Whether a number lies in it; beside a closed end by no more than rounding."""
        above = value >= self.low - _ROUNDING if self.with_low else value > self.low
        below = value <= self.high + _ROUNDING if self.with_high else value < self.high
        return above and below

    def __str__(self) -> str:
        left, right = "[" if self.with_low else "(", "]" if self.with_high else ")"
        return f"{left}{self.low:g}, {self.high:g}{right}"


@dataclass(frozen=True, slots=True)
class Impossible:
    """A hyperparameter that cannot be.

    Attributes:
        key: group key.
        value: as stored.
        why: a clause.
    """

    key: str
    value: object
    why: str


def impossible(values: Mapping[str, object], candidates: Iterable[str]) -> list[Impossible]:
    """Return the hyperparameters of a group that every optimizer which it may be refuses.

    Args:
        values: of the group; what is no number, and what could not be read, is passed over.
        candidates: class names that the optimizer may be.
    """
    known = _ranges()
    names = list(candidates)
    tables = [known[name] for name in names if name in known]
    certain = bool(names) and len(tables) == len(names)
    found = []
    for key, value in values.items():
        if key not in _ALWAYS_FINITE and not (certain and all(key in table for table in tables)):
            continue
        members = value if isinstance(value, (tuple, list)) else (value,)
        numbers = [_number(member) for member in members]
        if any(number is not None and not math.isfinite(number) for number in numbers):
            found.append(Impossible(key, value, "it is not finite"))
            continue
        accepted = [table[key] for table in tables if key in table] if certain else []
        if accepted and not any(_all_hold(numbers, intervals) for intervals in accepted):
            intervals = " and ".join(dict.fromkeys(map(str, accepted[0])))
            found.append(Impossible(key, value, f"{names[0]} accepts {intervals} only"))
    return found


def impossible_step(step: float) -> bool:
    """Say whether a count of updates is negative, no integer or not finite."""
    return not math.isfinite(step) or step < 0 or step != int(step)


def _all_hold(numbers: list[float | None], intervals: tuple[Interval, ...]) -> bool:
    of_each = intervals if len(intervals) > 1 else intervals * len(numbers)
    return len(of_each) != len(numbers) or all(
        number is None or interval.holds(number)
        for number, interval in zip(numbers, of_each, strict=True)
    )


def _number(value: object) -> float | None:
    plain = plain_number(value)
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        return None
    return float(plain)


@lru_cache(maxsize=1)
def _ranges() -> Mapping[str, Mapping[str, tuple[Interval, ...]]]:
    data = json.loads((DATA / "optimizer_ranges.json").read_text(encoding="utf-8"))
    return {
        name: {
            key: tuple(map(_parse, [told] if isinstance(told, str) else told))
            for key, told in keys.items()
        }
        for name, keys in data.items()
    }


def _parse(text: str) -> Interval:
    low, high = text[1:-1].split(", ")
    return Interval(float(low), text[0] == "[", float(high), text[-1] == "]")
