"""Witnesses of the job's step: its own counts, its schedulers', and its directory's name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpctl.errors import DcpctlError
from dcpctl.formats.pickles.standins import Record
from dcpctl.model.optimizer.source import plain_number
from dcpctl.model.positions import position_of
from dcpctl.model.sections import OTHER, SCHEDULER
from dcpctl.model.side_values import values_beside

COUNT, NAMED = "count", "name"
THE_NAME = "the directory's name"

# What a job calls its count of steps. Plain plurals (`train_steps`) are how many it plans.
_WHOSE = r"(?:(?:global|train(?:er|ing|ed)?|cur(?:rent)?|completed|opt(?:imizer)?|last|job)_)*"
_SURE = re.compile(
    rf"_?{_WHOSE}(?:step|iteration|iter|update)(?:_(?:num|number|idx|index|id|count|counter))?"
    r"|(?:global|completed|finished|trained)_(?:steps|iterations|updates)"
    r"|(?:steps|iterations|updates)_(?:run|done|completed|finished|trained|taken|so_far)"
    r"|num_updates"
)
_HINT = re.compile(r".*(?:step|iter|batch|update|progress).*")
# Counts of something else than the job's steps, and what was only planned.
_OTHERS = re.compile(
    r"(?:.*_)?(?:ema|eval|valid?|validation|test|best|config|cfg|args|hparams|hyper_parameters"
    r"|scaler|loss_scale|data_?loader|data_?iter(?:ator)?|dataset|sampler|rng)(?:_.*)?"
)
_LAST_EPOCH, _STEP_COUNT = "last_epoch", "_step_count"
_RATES = _BASE_LRS, _LAST_LR = "base_lrs", "_last_lr"
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MAX_STEP = 1e15
# A loss scaler skips steps of the optimizer that the job counts: a few.
_FEW_SHARE, _FEW = 0.02, 2
#: Deepest path whose last word is believed alone; entries and values that are looked at.
_DEPTH, _ENTRIES, _NODES = 5, 256, 4096
_ENTRY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Witness:
    """One thing that says at which step the job was.

    Attributes:
        source: an FQN, a key in a file beside the shards, or `THE_NAME`.
        step: the step.
        kind: `count` or `name`.
        sure: its own words say that it counts the job's steps; else it is one only beside others
            that say the same.
    """

    source: str
    step: float
    kind: str = COUNT
    sure: bool = True


@dataclass(frozen=True, slots=True)
class Schedule:
    """What one learning rate scheduler counted.

    Attributes:
        source: where its `last_epoch` is.
        last_epoch: how often it was stepped; torch calls it so whatever the job steps it by.
        calls: how often it was stepped by its other counter; None if it has none.
        rates: of each param group the learning rate that it began with (the group's `initial_lr`)
            and the one that it set last; empty where it does not say.
    """

    source: str
    last_epoch: float
    calls: float | None = None
    rates: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Everything about a checkpoint that says at which step the job was.

    Attributes:
        counts: the job's own counts and the directory's name.
        schedules: its schedulers, those that drive others without the others.
    """

    counts: tuple[Witness, ...] = ()
    schedules: tuple[Schedule, ...] = ()

    @property
    def sure(self) -> tuple[Witness, ...]:
        """Those that are believed alone."""
        return tuple(witness for witness in self.counts if witness.sure)

    def saying(self, step: float) -> tuple[str, ...]:
        """The sources that give this step, sure or not."""
        said = [witness.source for witness in self.counts if witness.step == step]
        said += [each.source for each in self.schedules if each.last_epoch == step]
        return tuple(dict.fromkeys(said))


def witnesses_of(checkpoint: Any, sections: Mapping[str, str]) -> Witnesses:
    """Collect the witnesses of a checkpoint: in its entries, beside its shards, and in its name.

    Args:
        checkpoint: a `Checkpoint`, or what has its entries; files and names are looked at where it
            has a `path`.
        sections: FQN to section.
    """
    values = list(_values(checkpoint.entries, sections))
    path = getattr(checkpoint, "path", None)
    if path is not None:
        values += [
            (f"{file}: {'.'.join(key)}", key, value, SCHEDULER if _is_schedule(file) else OTHER)
            for file, key, value in _beside(checkpoint)
        ]
    counts = [w for w in (_witness(*value) for value in values) if w is not None]
    if path is not None:
        counts += _by_name(Path(path))
    return Witnesses(tuple(counts), tuple(_schedules(values)))


def counts_in(entries: Mapping[str, Any], sections: Mapping[str, str]) -> list[Witness]:
    """Return the counts that a job saved among the entries of a checkpoint.

    Args:
        entries: FQN to entry.
        sections: FQN to section.
    """
    made = (_witness(*value) for value in _values(entries, sections))
    return [witness for witness in made if witness is not None]


def few(missed: float, steps: float) -> bool:
    """Whether so many steps may have been skipped by a loss scaler, which the job counts."""
    return 0 <= missed <= max(_FEW, _FEW_SHARE * steps)


def settled(witnesses: Sequence[Witness], at: float | None) -> Witness | None:
    """The witness to go by: one that agrees with the optimizer, else the one that most agree with.

    Args:
        witnesses: those that are sure.
        at: the optimizer's step; None where it is not known.
    """
    if not witnesses:
        return None
    agrees = next((witness for witness in witnesses if witness.step == at), None)
    if agrees is not None:
        return agrees
    votes = Counter(witness.step for witness in witnesses)
    return max(witnesses, key=lambda witness: votes[witness.step])


def _values(
    entries: Mapping[str, Any], sections: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, ...], object, str]]:
    """Source, path, value and section of everything small that is the job's or a scheduler's."""
    looked = 0
    for fqn, section in sections.items():
        if section not in (OTHER, SCHEDULER) or looked >= _ENTRIES:
            continue
        entry = entries[fqn]
        path = tuple(fqn.split("."))
        is_tensor = hasattr(entry, "shape")
        told = any(map(_HINT.fullmatch, map(_snake, path))) or path[-1] == _LAST_EPOCH
        if is_tensor and (not told or any(size != 1 for size in entry.shape)):
            continue
        if not is_tensor and getattr(entry, "length", 0) > _ENTRY_BYTES:
            continue
        looked += 1
        try:
            value = plain_number(entry.numpy() if is_tensor else entry.value)
        except DcpctlError:
            continue  # for `check` to say
        for key, one in _leaves(value):
            yield ".".join((fqn, *key)), (*path, *key), one, section


def _leaves(value: object) -> Iterator[tuple[tuple[str, ...], object]]:
    """The plain numbers inside a decoded value, with their paths."""
    waiting: list[tuple[tuple[str, ...], object]] = [((), value)]
    for _ in range(_NODES):
        if not waiting:
            return
        key, one = waiting.pop()
        if isinstance(one, Record):
            one = one.fields
        if isinstance(one, Mapping) and len(key) < _DEPTH:
            waiting += [((*key, str(name)), inner) for name, inner in [*one.items()][:_NODES]]
        else:
            yield key, plain_number(one)


def _beside(checkpoint: Any) -> Iterator[tuple[str, tuple[str, ...], object]]:
    """File, path and value of the numbers in the files beside the shards."""
    roots = dict.fromkeys([Path(checkpoint.path), *(p.storage.root for p in checkpoint.parts)])
    for root in roots:
        for file, value in values_beside(root):
            for key, one in _leaves(value):
                yield file, key, one


def _is_schedule(file: str) -> bool:
    return "sched" in file.lower()


def _witness(source: str, path: tuple[str, ...], value: object, section: str) -> Witness | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not path:
        return None
    if not 0 <= value < _MAX_STEP or value != int(value) or section == SCHEDULER:
        return None
    words = [_snake(word) for word in path]
    if not any(map(_HINT.fullmatch, words)):
        return None
    own = len(path) <= _DEPTH and not any(map(_OTHERS.fullmatch, words))
    return Witness(source, value, COUNT, own and _SURE.fullmatch(words[-1]) is not None)


def _by_name(path: Path) -> list[Witness]:
    # Where names leave it open, what is a save is told by the counts in it.
    from dcpctl.model.saves import save_around

    position = position_of(save_around(path).name)
    if position is None or position.step is None:
        return []
    return [Witness(THE_NAME, position.step, NAMED)]


def _schedules(values: Iterable[tuple[str, tuple[str, ...], object, str]]) -> Iterator[Schedule]:
    """The outermost schedulers: one that holds others counts for them."""
    found: dict[tuple[str, ...], dict[str, tuple[str, float]]] = {}
    rates: dict[tuple[str, ...], list[float]] = {}  # by where they are, and what they are
    for source, path, value, section in values:
        leaf = path[-1] if path else ""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        for depth in (1, 2):  # a list that holds tensors is flattened
            if section == SCHEDULER and len(path) >= depth and path[-depth] in _RATES:
                file = source.partition(": ")[0] if ": " in source else ""
                of = (file, *path[: len(path) - depth + 1])
                rates.setdefault(of, []).extend(_rates(value))
        if section == SCHEDULER and leaf in (_LAST_EPOCH, _STEP_COUNT) and number:
            file = source.partition(": ")[0] if ": " in source else ""
            found.setdefault((file, *path[:-1]), {})[leaf] = source, float(value)  # type: ignore[arg-type]
    for where, counters in found.items():
        inner = any(where[: len(other)] == other for other in found if len(other) < len(where))
        if _LAST_EPOCH in counters and not inner:
            source, last = counters[_LAST_EPOCH]
            calls = counters.get(_STEP_COUNT)
            # torch counts the call that its constructor makes.
            stepped = None if calls is None else calls[1] - 1
            of_groups = (rates.get((*where, key), []) for key in _RATES)
            yield Schedule(source, last, stepped, tuple(zip(*of_groups, strict=False)))


def _rates(value: object) -> Iterator[float]:
    """The numbers of a list of learning rates, or of one that is a tensor."""
    for one in value if isinstance(value, (list, tuple)) else (value,):
        rate = plain_number(one)
        if isinstance(rate, (int, float)) and not isinstance(rate, bool):
            yield float(rate)


def _snake(word: str) -> str:
    return _CAPITAL.sub("_", word).lower()
