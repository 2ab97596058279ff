"""DCP6xx: what changed between the saves of a run that may have been meant to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dcpctl.check import words
from dcpctl.check.finding import INFO
from dcpctl.check.history import History
from dcpctl.check.registry import Hit, rule
from dcpctl.check.run import Run
from dcpctl.formats.records import ChunkTable
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.values import Unknown

# What a schedule changes all the time, and what is no hyperparameter.
_PASSING = frozenset({"lr", "params", "param_names", "step", "k"})


@rule("DCP607", INFO, "hyperparameters changed since the save before")
def hyperparameters(run: Run) -> Iterator[Hit]:
    """The values of each parameter's param group, the learning rate apart."""
    history = run.since()
    earlier = {parameter.name: parameter for parameter in history.earlier.view.parameters}
    changed: dict[tuple[str, str, str], list[str]] = {}
    for parameter in history.later.view.parameters:
        before = earlier.get(parameter.name)
        if before is not None and before.values and parameter.values:
            for what in _changes(before, parameter):
                changed.setdefault(what, []).append(parameter.name)
    for (key, old, new), names in changed.items():
        yield Hit(
            f"param_groups.{key}",
            f"{key} is {new} here and {old} in {history.earlier.name}, for "
            f"{words.count(len(names), 'parameter')}: {words.some(names)}",
        )


@rule("DCP608", INFO, "the layout changed since the save before")
def layout(run: Run) -> Iterator[Hit]:
    """The ranks that saved, and how the tensors are cut into chunks."""
    history = run.since()
    if history.exported:
        return
    before, after = history.earlier.checkpoint, history.later.checkpoint
    common = [fqn for fqn, e in after.tensors.items() if _same_shape(history, fqn, e.shape)]
    cut = [
        fqn
        for fqn in common
        if not _same_chunks(before.tensors[fqn].chunks, after.tensors[fqn].chunks)
    ]
    if not cut and len(before.ranks) == len(after.ranks):
        return
    ranks = words.count(len(after.ranks), "rank")
    yield Hit(
        "layout",
        f"saved by {ranks} here and by {len(before.ranks):,} in {history.earlier.name}; "
        f"{len(cut):,} of {words.count(len(common), 'tensor')} are cut otherwise",
    )


def _changes(before: Parameter, after: Parameter) -> Iterator[tuple[str, str, str]]:
    for key in dict.fromkeys([*before.values, *after.values]):
        if key in _PASSING:
            continue
        if isinstance(before.values.get(key), Unknown) or isinstance(
            after.values.get(key), Unknown
        ):
            continue
        old, new = _value(before, key), _value(after, key)
        if old != new:
            yield key, old, new


def _value(parameter: Parameter, key: str) -> str:
    return _shown(parameter.values[key]) if key in parameter.values else "absent"


def _shown(value: object) -> str:
    """A hyperparameter as it is compared and printed: a list is what a tuple is."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _same_shape(history: History, fqn: str, shape: tuple[int, ...]) -> bool:
    old = history.earlier.checkpoint.tensors.get(fqn)
    return old is not None and old.shape == shape


def _same_chunks(before: ChunkTable, after: ChunkTable) -> bool:
    """Whether two tensors are cut into the same boxes, in whatever order and copies."""
    old, new = (np.concatenate((table.offsets, table.sizes), axis=1) for table in (before, after))
    return np.array_equal(old, new) or np.array_equal(
        np.unique(old, axis=0), np.unique(new, axis=0)
    )
