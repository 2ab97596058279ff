"""Step `missing-state`: a new state for parameters that have none, where asked for.

An optimizer makes a parameter's state at its first gradient, so that one that never got any (the
gate of an expert, an unused head) has none, and `dcp.load` of a run that asks for it fails.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from dcpctl.errors import Refused, listed
from dcpctl.model.draft import Draft, EntryDraft, Grid, TensorDraft
from dcpctl.model.entry import TensorEntry
from dcpctl.model.fqn import Path
from dcpctl.model.optimizer import coverage
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.source import Fill
from dcpctl.surgery.upgrade.engine import Context, Done, step


@step("missing-state", 60)
def missing_state(draft: Draft, context: Context) -> Done:
    """Give parameters without any state what their optimizer starts from: zeros, and step 0.

    Raises:
        Refused: part of it is there or named, so that it was made and lost, or it could not be
            read, or it starts from something else than zeros.
    """
    if context.fill_missing_state is None:
        return Done(draft)
    parameters = context.view(draft).parameters
    unread = [p.name for p in parameters if p.status == coverage.UNREAD]
    if unread:
        raise Refused(f"the state of {listed(unread)} could not be read, so nothing replaces it")
    lost = [p.name for p in parameters if p.missing and (p.slots or p.absent)]
    if lost:
        raise Refused(
            f"the state of {listed(lost)} was made and is lost: the rest of it is there or named; "
            "zeros would reset it",
            hint="take it from the save before this one",
        )
    bare = [p for p in parameters if p.missing]
    unknown = [p.name for p in bare if p.shape is None or not _model(parameters, p)]
    if unknown:
        raise Refused(f"what state {listed(unknown)} should have is not known")
    new: list[EntryDraft] = []
    planner: dict[str, Path] = {}
    for parameter in bare:
        pattern = _model(parameters, parameter)
        assert pattern is not None
        for slot in parameter.missing:
            made, path = _filled(draft, parameter, pattern, slot)
            new.append(made)
            planner[made.fqn] = path
    if not new:
        return Done(draft)
    places = draft.planner_data
    made_draft = draft.with_entries(
        [*draft.entries.values(), *new], None if places is None else {**places, **planner}
    )
    names = listed([parameter.name for parameter in bare], 3)
    return Done(made_draft, len(new), f"zeros for {names}: never given a gradient, or lost")


def _model(parameters: Iterable[Parameter], bare: Parameter) -> Parameter | None:
    """A parameter of the same optimizer that has all slots that the bare one should have."""
    return next(
        (
            p
            for p in parameters
            if p.root == bare.root
            and p.kind.name == bare.kind.name
            and all(slot in p.slots and p.slots[slot].parts == 1 for slot in bare.missing)
        ),
        None,
    )


def _filled(
    draft: Draft, parameter: Parameter, pattern: Parameter, slot: str
) -> tuple[TensorDraft, Path]:
    """A new entry, named and shaped as another parameter's."""
    known = pattern.slots[slot]
    source = draft.entries[known.fqn]
    if not isinstance(source, TensorDraft) or parameter.shape is None:
        raise Refused(f"{listed([known.fqn])} is no tensor, so no state can be made like it")
    if known.is_scalar and pattern.shape != known.shape:
        shape = source.shape
    elif known.shape == pattern.shape:
        shape = parameter.shape
    else:
        raise Refused(
            f"{listed([known.fqn])} has another shape than its parameter; what "
            f"{parameter.name} should have is not known"
        )
    fqn = known.fqn.replace(f".{pattern.key}.", f".{parameter.key}.", 1)
    path: Path = tuple(
        _swapped(key, pattern.key, parameter.key)
        for key in (draft.planner_data or {}).get(known.fqn, (known.fqn,))
    )
    made = TensorDraft(fqn, shape, source.dtype, Fill(0.0))
    behind = draft.entries.get(parameter.fqn or "")
    if shape and isinstance(behind, TensorDraft) and behind.shape == shape:
        made = dataclasses.replace(made, grid=_grid(draft, behind))
    return made, path


def _swapped(key: str | int, old: str, new: str) -> str | int:
    """A key of an object path with another parameter's name in it."""
    if key == old:
        return new
    if isinstance(key, str) and f".{old}." in key:
        return key.replace(f".{old}.", f".{new}.", 1)
    return key


def _grid(draft: Draft, behind: TensorDraft) -> Grid | None:
    """The chunks of the parameter itself, each once."""
    source = behind.source.entry
    if behind.grid is not None or source is None:
        return behind.grid
    chunks = source.chunks
    _, first = np.unique(chunks.offsets, axis=0, return_index=True)
    rows = np.sort(first)
    ranks = _ranks(draft, source)
    rank = np.array([ranks.get(file, 0) for file in chunks.file[rows].tolist()], dtype=np.int64)
    return Grid(chunks.offsets[rows], chunks.sizes[rows], rank)


def _ranks(draft: Draft, entry: TensorEntry) -> Mapping[int, int]:
    for source in draft.sources:
        if source.entries.get(entry.fqn) is entry:
            return {number: file.rank or 0 for number, file in enumerate(source.files)}
    return {}
