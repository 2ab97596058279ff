"""Counts over the trained parameters: who has which slot, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.source import RawOptimizer, StateEntry, read

# Where a step is kept that is no state slot: Apex' and Transformer Engine's FusedAdam count in
# the group, schedulefree in its key `k`.
_GROUP_STEPS = ("step", "k")
#: The slot that counts the steps of a parameter.
STEP_SLOT = "step"


@dataclass(frozen=True, slots=True)
class SlotCount:
    """How many parameters have a state slot.

    Attributes:
        present: parameters that have it.
        expected: parameters that should.
    """

    present: int
    expected: int


@dataclass(frozen=True, slots=True)
class MissingState:
    """A state slot that a parameter should have and has not.

    Attributes:
        fqn: the parameter's name, as the optimizer names it.
        slot: the state slot.
        status: `lost`, `never trained or lost` or `unclear`.
        why: what that rests on.
    """

    fqn: str
    slot: str
    status: str
    why: str


def slot_counts(parameters: Sequence[Parameter]) -> dict[str, SlotCount]:
    """Count for every state slot the parameters that have it and those that should.

    A slot that is there and not expected counts as expected, unless it holds None.
    """
    present: dict[str, int] = {}
    expected: dict[str, int] = {}
    for parameter in parameters:
        for slot in dict.fromkeys([*parameter.expected, *parameter.slots]):
            has = slot in parameter.slots
            if slot not in parameter.expected and _is_none(parameter.slots[slot]):
                continue
            expected[slot] = expected.get(slot, 0) + 1
            present[slot] = present.get(slot, 0) + has
    return {slot: SlotCount(present[slot], count) for slot, count in expected.items()}


def missing_state(parameters: Sequence[Parameter]) -> tuple[MissingState, ...]:
    """List every slot that a parameter should have and has not."""
    return tuple(
        MissingState(parameter.name, slot, parameter.status, parameter.why)
        for parameter in parameters
        for slot in parameter.missing
    )


def steps_of(raw: RawOptimizer, parameters: Sequence[Parameter]) -> dict[str, float]:
    """Read the step of every parameter that has one, by name."""
    found: dict[str, float] = {}
    for parameter in parameters:
        entry = parameter.slots.get(STEP_SLOT)
        if entry is None:
            key = next((key for key in _GROUP_STEPS if key in parameter.values), None)
            value = parameter.values[key] if key is not None else None
        else:
            value = read(entry, raw.unknown) if entry.is_scalar else None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found[parameter.name] = value
    return found


def _is_none(entry: StateEntry) -> bool:
    """A slot that holds None: torch up to 2.3 keeps such for SGD without momentum."""
    return entry.shape is None and entry.parts == 1 and read(entry, []) is None
