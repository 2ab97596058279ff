"""DCP6xx: what changed between the saves of a run that may have been meant to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dcpctl.check import words
from dcpctl.check.finding import INFO, WARNING
from dcpctl.check.history import History
from dcpctl.check.rates import number_of
from dcpctl.check.registry import Hit, rule
from dcpctl.check.run import Run
from dcpctl.formats.records import ChunkTable
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.values import Unknown

# What a schedule changes all the time, and what is no hyperparameter.
_PASSING = frozenset({"lr", "params", "param_names", "step", "k"})


# A hyperparameter that changes so many times is rather a mistake than a decision.
_JUMP = 10.0
# The root of a second moment is seldom so small that a lesser eps is felt beside it.
_FELT = 1e-4


@rule("DCP607", INFO, "hyperparameters changed since the save before")
def hyperparameters(run: Run) -> Iterator[Hit]:
    """The values of each parameter's param group, the learning rate apart."""
    history = run.since()
    earlier = {parameter.name: parameter for parameter in history.earlier.view.parameters}
    changed: dict[tuple[str, str, str, bool], list[str]] = {}
    for parameter in history.later.view.parameters:
        before = earlier.get(parameter.name)
        if before is not None and before.values and parameter.values:
            for what in _changes(before, parameter):
                changed.setdefault(what, []).append(parameter.name)
    for (key, old, new, jumps), names in changed.items():
        yield Hit(
            f"param_groups.{key}",
            f"{key} is {new} here and {old} in {history.earlier.name}, for "
            f"{words.count(len(names), 'parameter')}: {words.some(names)}",
            severity=WARNING if jumps else None,
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
        f"{len(cut):,} of {words.count(len(common), 'tensor')} have other chunks",
    )


def _changes(before: Parameter, after: Parameter) -> Iterator[tuple[str, str, str, bool]]:
    """Keys whose values differ, both values, and whether they are far apart."""
    for key in dict.fromkeys([*before.values, *after.values]):
        if key in _PASSING or _cycled(key, before, after):
            continue
        if isinstance(before.values.get(key), Unknown) or isinstance(
            after.values.get(key), Unknown
        ):
            continue
        old, new = _value(before, key), _value(after, key)
        if old != new:
            both = key in before.values and key in after.values
            yield key, old, new, both and _jumps(key, before.values[key], after.values[key])


def _cycled(key: str, before: Parameter, after: Parameter) -> bool:
    """Whether a momentum only moved in the span that its cyclic schedule wrote into the group."""
    span = [number_of(after, end) for end in ("base_momentum", "max_momentum")]
    if span[0] is None or span[1] is None or key not in ("betas", "momentum"):
        return False
    values = [parameter.values.get(key) for parameter in (before, after)]
    if key == "momentum":
        values = [(value,) for value in values]
    pairs = [value for value in values if isinstance(value, (list, tuple))]
    if len(pairs) != 2 or list(pairs[0][1:]) != list(pairs[1][1:]):
        return False
    return all(isinstance(pair[0], float) and span[0] <= pair[0] <= span[1] for pair in pairs)


def _jumps(key: str, old: object, new: object) -> bool:
    """Whether a number, or one of a tuple, is ten times as large or small; of a beta, its rest."""
    olds, news = (value if isinstance(value, (list, tuple)) else (value,) for value in (old, new))
    for one, other in zip(olds, news, strict=False):
        if not all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in (one, other)):
            continue
        sizes = [1 - n if key in ("betas", "momentum") else abs(n) for n in (one, other)]
        low, high = min(sizes), max(sizes)
        if low > 0 and high >= _JUMP * low * (1 - 1e-9):
            return key != "eps" or high >= _FELT
    return False


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
