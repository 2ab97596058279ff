"""Copies of models: averages (EMA, SWA), teachers, references, and second lists of the tensors.

A copy mirrors the names and shapes of a model and has no optimizer of its own. What it is called
only labels it; a count of averages beside it, or other numbers than the model's, say that it is
more than a second list of the same tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dcpctl.errors import DcpctlError
from dcpctl.model.fqn import is_index, strip_wrappers
from dcpctl.model.optimizer.catalogue import catalogue
from dcpctl.model.optimizer.pairing import Model, nearest
from dcpctl.model.optimizer.source import RawOptimizer

_COPY_WORD = re.compile(
    r"(?i)ema|swa|averaged?|avg|shadow|polyak|target|teacher|slow|ref|reference|old"
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# Tensors that are read to tell an average from a second list of the same tensors, and elements.
_COMPARED = 4
_MAX_COMPARED = 1 << 18


@dataclass(frozen=True, slots=True)
class Copy:
    """Tensors that mirror a model and have no optimizer: an average of it, a teacher, a reference.

    Attributes:
        root: what their FQNs begin with.
        names: the parameter's name in its model, without wrappers, to the FQN of the copy's tensor.
        of: root of the model that they mirror.
        same: nothing says that they are an average and the numbers that were compared are equal: a
            second list of the model's own tensors.
    """

    root: str
    names: Mapping[str, str]
    of: str
    same: bool = False


def copies_of(
    models: Sequence[Model],
    trained: Collection[str],
    is_copy: Mapping[str, bool],
    entries: Mapping[str, Any],
) -> list[Copy]:
    """Return the models that are copies of others.

    Args:
        models: all models.
        trained: roots of those that have an optimizer, or may have one.
        is_copy: whether a model shows that it is a copy by itself, by root; decides where there is
            no optimizer at all.
        entries: FQN to entry; where nothing else says what a copy is, a few small tensors are read.
    """
    found = []
    for model in models:
        if model.root in trained or (not trained and not is_copy[model.root]):
            continue
        originals = [
            other
            for other in models
            if other is not model
            and (other.root in trained if trained else not is_copy[other.root])
            and mirrors(model, other)
        ]
        if originals:
            count = len(model.parameters)
            whole = [other for other in originals if len(other.parameters) == count]
            other = nearest(model.root, whole or originals)[0]
            same = not is_copy[model.root] and _equal(model, other, entries)
            found.append(Copy(model.root, model.names, other.root, same))
    return found


def _equal(model: Model, other: Model, entries: Mapping[str, Any]) -> bool:
    """Whether the smallest tensors of two models hold equal numbers, or cannot be read."""
    theirs = {parameter.name: parameter.fqn for parameter in other.parameters}
    pairs = [(p.fqn, theirs[p.name]) for p in model.parameters if p.name in theirs]
    sizes = {p.fqn: math.prod(p.shape) for p in model.parameters}
    small = sorted(pairs, key=lambda pair: sizes[pair[0]])[:_COMPARED]
    try:
        return all(
            sizes[one] > _MAX_COMPARED
            or entries[one].numpy().tobytes() == entries[two].numpy().tobytes()
            for one, two in small
        )
    except DcpctlError:
        return True


def mirrors(model: Model, other: Model) -> bool:
    """Whether a model's tensors have names and shapes of another's.

    A list of tensors has no names; it mirrors a model whose parameters have its shapes, in order.
    """
    shapes = {parameter.name: parameter.shape for parameter in other.parameters}
    own = {parameter.name: parameter.shape for parameter in model.parameters}
    if not own or not shapes:
        return False
    if all(map(is_index, own)):
        numbered = sorted(own.items(), key=lambda item: int(item[0]))
        return len(own) == len(shapes) and [s for _, s in numbered] == list(shapes.values())
    alike = sum(shapes.get(name) == shape for name, shape in own.items())
    return 2 * alike > len(own) and all(shapes.get(n, s) == s for n, s in own.items())


def is_average(raw: RawOptimizer) -> bool:
    """Say whether what holds `state` and `param_groups` averages weights instead of training them.

    Every optimizer has a learning rate; an average has none, and one tensor per parameter in a slot
    that no optimizer keeps (`ema.state.<name>.ema_params`).
    """
    if not raw.groups or not raw.state or any("lr" in group.values for group in raw.groups):
        return False
    slots = {s for held in raw.state.values() for s, entry in held.items() if not entry.is_scalar}
    return len(slots) == 1 and not slots & catalogue().known_slots()


def repeats_weights(raw: RawOptimizer, model: Model, entries: Mapping[str, Any]) -> bool:
    """Say whether an optimizer's state has a model's weights in it, as master weights do.

    The smallest tensors are read; one number repeated (a bias of zeros) tells nothing.
    """
    small = sorted(model.parameters, key=lambda p: math.prod(p.shape))[: 2 * _COMPARED]
    state = {strip_wrappers(key): slots for key, slots in raw.state.items()}
    try:
        for parameter in small:
            held = state.get(parameter.name, {}).values()
            same = [e for e in held if e.shape == parameter.shape and e.parts == 1]
            if not same or math.prod(parameter.shape) > _MAX_COMPARED:
                continue
            weight = entries[parameter.fqn].numpy()
            if (weight == weight.flat[0]).all():
                continue
            if any(entries[entry.fqn].numpy().tobytes() == weight.tobytes() for entry in same):
                return True
    except DcpctlError:
        return False
    return False


def shows_copy(root: str, beside: Iterable[str] = ()) -> bool:
    """Say whether a model is a copy by itself: a word of its root, or a count of averages.

    Args:
        root: of the model.
        beside: keys in its container that are no parameters: `n_averaged` of
            torch.optim.swa_utils.AveragedModel, `num_updates` of others.
    """
    if any(_COPY_WORD.fullmatch(word) for word in _WORD.findall(root)):
        return True
    return any(key in ("n_averaged", "num_updates") for key in beside)
