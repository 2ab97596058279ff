"""Setting values: hyperparameters, steps, any scalar; in the type that they have."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dcpctl.errors import NothingSelected, Refused, quote
from dcpctl.formats.tensor_values import TensorValue
from dcpctl.model.draft import BytesDraft, Draft, EntryDraft, Grid, TensorDraft
from dcpctl.model.sections import SCHEDULER
from dcpctl.model.source import Fill, NewValue
from dcpctl.surgery.names.survey import NAME_LISTS, Names, survey
from dcpctl.surgery.names.values import alike
from dcpctl.surgery.outcome import Change, Outcome
from dcpctl.surgery.set import Assignment, Text
from dcpctl.surgery.settings.literals import converted, fitting, parse
from dcpctl.surgery.settings.spots import Key, Spot, spots
from dcpctl.surgery.upgrade.groups import groups_elsewhere


def assign(
    draft: Draft,
    assignments: Sequence[Assignment],
    *,
    change_type: bool = False,
    fill: bool = False,
) -> Outcome:
    """Set values, one assignment after the other.

    A number in a bytes entry keeps its Python type, a tensor its shape and dtype.

    Args:
        draft: the checkpoint.
        assignments: at least one.
        change_type: take values of another type in bytes entries.
        fill: set every element of a tensor that has more than one.

    Raises:
        NothingSelected: an assignment is about nothing.
        Refused: the type differs, torch's optimizers do not allow the value, the dtype cannot hold
            it, or a tensor has more than one element.
    """
    names = survey(draft)
    made: dict[str, EntryDraft] = dict(draft.entries)
    changes: list[Change] = []
    same = 0
    for wanted in assignments:
        found = spots(draft, names, wanted.target)
        if not found:
            raise _nothing(draft, wanted.target)
        for spot in found:
            entry = made[spot.fqn]
            new, change = (
                _tensor(entry, wanted.value, spot, fill)
                if isinstance(entry, TensorDraft)
                else _value(entry, wanted.value, spot, change_type)
            )
            if change is None:
                same += 1
            else:
                made[spot.fqn] = new
                changes.append(change)
    notes = [f"{same:,} values are so already"] if same else []
    warnings = _on_schedulers(names, assignments)
    result = draft.with_entries(made.values(), draft.planner_data)
    return Outcome(result, tuple(changes), tuple(notes), tuple(warnings))


def _tensor(
    entry: TensorDraft, given: Any, spot: Spot, fill: bool
) -> tuple[EntryDraft, Change | None]:
    subject = quote(entry.fqn)
    if entry.numel != 1 and not fill:
        raise Refused(
            f"{subject} is a tensor of {entry.numel:,} elements, and setting it would lose them",
            hint="--fill sets every one of them",
        )
    given = parse(given.text) if isinstance(given, Text) else given
    kind_checked = converted(None, given, key=spot.key, subject=subject, change_type=True)
    number = fitting(kind_checked, entry.dtype, subject)
    old = _number(entry) if entry.numel == 1 else None
    if old is not None and (old == number or (old != old and number != number)):
        return entry, None
    shown = f"{entry.dtype}[{', '.join(map(str, entry.shape))}]" if old is None else repr(old)
    grid, rank = _place(entry)
    new = dataclasses.replace(entry, source=Fill(number), grid=grid, rank=rank)
    return new, Change("set", entry.fqn, f"{shown} -> {number!r}")


def _number(entry: TensorDraft) -> float | None:
    array: Any = entry.numpy().reshape(-1)
    item = array[0]
    return item.item() if hasattr(item, "item") and array.dtype.kind in "biuf" else float(item)


def _place(entry: TensorDraft) -> tuple[Grid | None, int]:
    """The chunks of a tensor as they are; a scalar stays with its rank."""
    source = entry.source.entry
    if entry.grid is not None or source is None:
        return entry.grid, entry.rank
    ranks = source.ranks
    if entry.numel == 1 or len(source.chunks) == 1:
        return None, ranks[0] if ranks else 0
    chunks = source.chunks
    return Grid(chunks.offsets, chunks.sizes, source.chunk_ranks()), 0


def _value(
    entry: BytesDraft, given: Any, spot: Spot, change_type: bool
) -> tuple[EntryDraft, Change | None]:
    if spot.key in NAME_LISTS:
        raise Refused(
            f"{quote(spot.name)} lists parameters and is not set",
            hint="dcpctl rename and drop --with-state keep such lists as they should be",
        )
    value = entry.value
    old = _at(value, spot.path)
    new = converted(old, given, key=spot.key, subject=quote(spot.name), change_type=change_type)
    if _equal(old, new):
        return entry, None
    made = _replaced(value, spot.path, new)
    change = Change("set", spot.name, f"{_shown(old)} -> {_shown(new)}")
    return BytesDraft(entry.fqn, NewValue(made), entry.rank), change


def _at(value: Any, path: tuple[Key, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _replaced(value: Any, path: tuple[Key, ...], new: Any) -> Any:
    """The value with one member replaced; only what leads to it is copied."""
    if not path:
        return new
    key = path[0]
    part = _replaced(value[key], path[1:], new)
    if isinstance(value, (list, tuple)):
        items = [part if index == key else item for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    return alike(value, {**value, key: part})


def _equal(old: Any, new: Any) -> bool:
    if isinstance(old, TensorValue) and isinstance(new, TensorValue):
        return bool(np.array_equal(old.array, new.array))
    return type(old) is type(new) and bool(old == new)


def _shown(value: Any) -> str:
    if isinstance(value, TensorValue):
        return repr(float(value.array.reshape(-1)[0]))
    return "null" if value is None else repr(value)


def _nothing(draft: Draft, target: str) -> NothingSelected:
    last = target.rpartition(".")[2].strip("*?") or target
    like = [fqn for fqn in draft.entries if fqn.endswith("." + last)][:3]
    hint = f"there is {', '.join(map(quote, like))}" if like else ""
    if not hint and "." not in target:
        hint = groups_elsewhere(draft)
    hint = hint or "dcpctl inspect --keys lists keys"
    return NothingSelected(f"nothing to set is called {quote(target)}", hint=hint)


def _on_schedulers(names: Names, assignments: Sequence[Assignment]) -> list[str]:
    """A word on what undoes a new learning rate at the next step."""
    if not any(wanted.target.rpartition(".")[2] == "lr" for wanted in assignments):
        return []
    own = [f for f in names.sections.members(SCHEDULER) if f.endswith(("_lr", "_lrs"))]
    if not own:
        return []
    return [f"the scheduler computes lr from its own values at its next step: {', '.join(own[:3])}"]
