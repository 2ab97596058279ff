"""What the optimizer view reads from and what it reads into: plain shapes, no logic.

The view needs little of a checkpoint, so it asks for a protocol instead of the class: its tests
run on checkpoints made of dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from dcpctl.errors import DcpctlError
from dcpctl.model.fqn import Path
from dcpctl.model.optimizer.catalogue import catalogue
from dcpctl.model.optimizer.naming import Place
from dcpctl.model.values import Unknown

PLAIN = "one entry per parameter and slot"
FLAT = "flattened by parameter name"
BACKWARD = "one optimizer per parameter"
INDEXED = "index-keyed optimizer.state_dict()"
SLOT_FIRST = "Megatron's slot before name"
BUCKETS = "Megatron's gradient buckets"
PICKLED = "one pickled dict"
LOOSE = "by parameter name, in a form of its own"
UNKNOWN = "a form that dcpctl does not know"


class EntryLike(Protocol):
    """A tensor entry (it has `shape`, `dtype` and `numpy`) or a bytes entry (it has `value`)."""

    @property
    def fqn(self) -> str:
        """Flattened key."""


class CheckpointLike(Protocol):
    """The part of a `Checkpoint` that says what its optimizer is."""

    @property
    def entries(self) -> Mapping[str, Any]:
        """FQN to entry, in metadata order."""

    @property
    def planner_data(self) -> Mapping[str, Path] | None:
        """FQN to object path, or None."""


def plain_number(value: object) -> object:
    """Return a tensor or array of one element as a Python number; everything else as it is."""
    shape = getattr(value, "shape", None)
    if shape is not None and all(size == 1 for size in shape) and hasattr(value, "item"):
        item: object = value.item()
        # ml_dtypes' scalars (bfloat16, float8) are no Python numbers.
        return item if isinstance(item, (bool, int, float, complex)) else float(str(item))
    return value


@dataclass(frozen=True, slots=True)
class StateEntry:
    """What holds one state slot of one parameter.

    Attributes:
        fqn: the entry that holds it; of a slot that is a list (LBFGS), the first of its entries.
        shape: of a tensor; None for a plain value.
        dtype: of a tensor; None for a plain value.
        read: reads the value.
        parts: number of entries that hold the slot.
        gap: which part of it is not in the checkpoint, a clause; empty where all is.
    """

    fqn: str
    shape: tuple[int, ...] | None
    dtype: str | None
    read: Callable[[], object]
    parts: int = 1
    gap: str = ""

    @property
    def is_scalar(self) -> bool:
        """Whether it is a tensor of one element, or a plain value."""
        return self.shape is None or all(size == 1 for size in self.shape)

    def value(self) -> object:
        """Read the value: a number for a tensor of one element, an array for a larger one."""
        return plain_number(self.read())


def shape_behind(slots: Mapping[str, StateEntry]) -> tuple[int, ...] | None:
    """Return a parameter's shape as its state tells it; None where it does not.

    A slot known to have it tells; in state of an unknown kind, the one shape that all have.
    """
    for slot in ("exp_avg", "momentum_buffer", "square_avg", "sum", "variance", "prev", "ax"):
        if slot in slots and slots[slot].shape:
            return slots[slot].shape
    if "row_var" in slots and "col_var" in slots:
        rows, columns = slots["row_var"].shape, slots["col_var"].shape
        if rows and columns and len(rows) == len(columns):
            return tuple(max(pair) for pair in zip(rows, columns, strict=True))
    if slots.keys() & (catalogue().known_slots() - {"step"}):
        return None
    shapes = {entry.shape for entry in slots.values() if entry.shape and entry.parts == 1}
    return shapes.pop() if len(shapes) == 1 else None


def entry_of(fqn: str, entry: Any) -> StateEntry:
    """Describe a checkpoint's entry, reading nothing yet."""
    gap = getattr(entry, "gap", "")
    if hasattr(entry, "shape"):
        return StateEntry(fqn, tuple(entry.shape), str(entry.dtype), entry.numpy, gap=gap)
    return StateEntry(fqn, None, None, lambda: entry.value, gap=gap)


def entry_of_value(fqn: str, value: Any) -> StateEntry:
    """Describe a value inside a pickled dict that one entry holds."""
    shape = getattr(value, "shape", None)
    if shape is None:
        return StateEntry(fqn, None, None, lambda: value)
    dtype = getattr(value.dtype, "name", value.dtype)
    return StateEntry(fqn, tuple(shape), str(dtype), lambda: value)


def read(entry: StateEntry, unknown: list[Unknown]) -> object:
    """Read an entry's value; an `Unknown`, noted in `unknown`, where the file does not give it.

    What is wrong with a damaged file is for `check` to say; the view of the rest must stand.
    """
    try:
        return entry.value()
    except DcpctlError as error:
        unknown.append(Unknown(entry.fqn, error.message))
        return unknown[-1]


class LazyValues(Mapping[str, object]):
    """The hyperparameters of a param group; each is read when it is first asked for."""

    __slots__ = ("_entries", "_unknown", "_values")

    def __init__(self, entries: Mapping[str, StateEntry], unknown: list[Unknown]) -> None:
        self._entries = dict(entries)
        self._unknown = unknown
        self._values: dict[str, object] = {}

    def __getitem__(self, key: str) -> object:
        if key not in self._values:
            self._values[key] = read(self._entries[key], self._unknown)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(slots=True)
class RawGroup:
    """A param group as it is stored.

    Attributes:
        values: hyperparameters in their stored order, without `params`.
        params: names or indices (as strings) of its parameters.
        names: `param_names`, where torch kept them (2.6 and later, named parameters).
        unknown: why its parameters are not known, where `params` could not be read.
    """

    values: Mapping[str, object]
    params: tuple[str, ...]
    names: tuple[str, ...] = ()
    unknown: Unknown | None = None


@dataclass(slots=True)
class RawOptimizer:
    """One optimizer as its entries say, before anything is concluded.

    Attributes:
        root: what its FQNs begin with (`optimizer`, `optim`, `optimizers.0`, empty).
        style: how its state is named; one of the constants above.
        state: parameter name or index -> slot -> entry.
        absent: parameter -> slots that the planner data name and no entry holds.
        groups: param groups; for the flattened style one per parameter until they are merged.
        groups_pickled: `param_groups` is one pickled list (torch 2.0 to 2.3 and 1.13).
        groups_absent: parameters whose hyperparameters the planner data name and no entry holds.
        fqns: every entry that belongs to it.
        state_unknown: parameters whose whole state could not be read; the empty name stands for
            all parameters.
        groups_unknown: why the param groups are not known, where one entry holds them all or a
            whole one, and could not be read.
        unknown: what was asked for and could not be read.
        places: where each name that belongs to it stands, those without an entry included.
    """

    root: str
    style: str = PLAIN
    state: dict[str, dict[str, StateEntry]] = field(default_factory=dict)
    absent: dict[str, list[str]] = field(default_factory=dict)
    groups: list[RawGroup] = field(default_factory=list)
    groups_pickled: bool = False
    groups_absent: list[str] = field(default_factory=list)
    fqns: list[str] = field(default_factory=list)
    state_unknown: dict[str, Unknown] = field(default_factory=dict)
    groups_unknown: Unknown | None = None
    unknown: list[Unknown] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)

    @property
    def params_unknown(self) -> bool:
        """Whether it is not known of every group which parameters are in it."""
        return self.groups_unknown is not None or any(
            group.unknown is not None for group in self.groups
        )
