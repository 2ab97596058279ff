"""Which optimizer it was, told from its group keys, their order and values, and its state slots.

A checkpoint names no class. The group keys of torch.optim's optimizers differ from each other,
with one exception: Adam and AdamW. From 2.7 on both have `decoupled_weight_decay`, whose value
tells; before, they have the same keys and state, but `foreach` stands before `maximize` in
AdamW's groups and after it in Adam's (torch/optim/adam.py, adamw.py of 2.0 to 2.6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dcpctl.model.optimizer.catalogue import (
    FOREIGN_KEYS,
    SlotRule,
    TorchOptimizer,
    catalogue,
    version_key,
)
from dcpctl.model.values import Unknown

DECOUPLED = "decoupled_weight_decay"
# Keys of torch.optim's own making, of which every optimizer of it has some since 1.13.
_TORCHS_MARKS = frozenset({"maximize", "foreach", "capturable", "differentiable", "fused"})
# Keys that people set in the groups they make; a dict keeps those before the defaults.
_OFTEN_SET = frozenset({"lr", "betas", "eps", "weight_decay", "momentum", "initial_lr"})


@dataclass(frozen=True, slots=True)
class Kind:
    """What the evidence says of an optimizer.

    Attributes:
        name: for people: `AdamW`, `Adam or AdamW`; None when nothing known fits.
        candidates: class names that it may be, best first; one when it is certain.
        how: how it was told, a clause for a sentence.
        rules: the slots that it keeps; None when only the state itself can say.
        torch: torch.optim's optimizers among the candidates.
        global_state: one state for all parameters, under the first.
        foreign: its state is like theirs, but its group keys are not of torch's making.
    """

    name: str | None
    candidates: tuple[str, ...]
    how: str
    rules: Mapping[str, SlotRule] | None = None
    torch: tuple[TorchOptimizer, ...] = ()
    global_state: bool = False
    foreign: bool = False


def tell_kind(
    keys: Sequence[str],
    slots: frozenset[str],
    values: Mapping[str, object],
    root: str = "optimizer",
    classes: frozenset[str] = frozenset(),
    without: str = "no param groups",
) -> Kind:
    """Tell the optimizer of the param groups that have these keys.

    Args:
        keys: group keys in their stored order; empty when no group was stored.
        slots: state slots of the groups' parameters.
        values: the groups' hyperparameters; `decoupled_weight_decay` and `betas` are read.
        root: what the optimizer's FQNs begin with; frameworks differ in it.
        classes: names of the tensor subclasses that the state is of; none for plain tensors.
        without: why there are no keys, where there are none.

    Returns:
        The kind; one that says nothing when neither keys nor slots are known.
    """
    own = tuple(key for key in keys if key not in FOREIGN_KEYS)
    if not own:
        return _by_slots(slots, frozenset(), without, classes)
    return (
        _exact(own, slots, values)
        or _elsewhere(own, slots, root, values, classes)
        or _extended(own, slots, values)
        or _by_slots(slots, frozenset(own), f"group keys {', '.join(own)}", classes)
    )


def _spells(optimizer: TorchOptimizer, own: frozenset[str]) -> list[str]:
    """Releases in which the optimizer's group keys are exactly these."""
    if not any(frozenset(order) == own for _, order in optimizer.orders):
        return []
    return [
        release
        for release in catalogue().releases
        if version_key(release) >= version_key(optimizer.first)
        and frozenset(optimizer.keys_at(release)) == own
    ]


def _fits(optimizer: TorchOptimizer, slots: frozenset[str]) -> bool:
    return not slots or bool(slots & optimizer.slots.keys())


def _exact(
    own: tuple[str, ...], slots: frozenset[str], values: Mapping[str, object]
) -> Kind | None:
    """Group keys that are exactly those of an optimizer of torch.optim in some release."""
    found: list[TorchOptimizer] = []
    releases: list[str] = []
    for optimizer in catalogue().torch.values():
        spelled = _spells(optimizer, frozenset(own)) if _fits(optimizer, slots) else []
        if spelled:
            found.append(optimizer)
            releases.extend(spelled)
    if not found:
        return None
    releases.sort(key=version_key)
    since, until = (".".join(releases[end].split(".")[:2]) for end in (0, -1))
    span = f"torch {since}" if since == until else f"torch {since} to {until}"
    if until == catalogue().releases[-1].rpartition(".")[0]:
        span = f"torch since {since}"
    return _decide(own, found, values, f"the group keys are those of {span}'s")


def _extended(
    own: tuple[str, ...], slots: frozenset[str], values: Mapping[str, object]
) -> Kind | None:
    """Group keys that contain all of an optimizer's of torch.optim, and more."""
    best: list[TorchOptimizer] = []
    size = 0
    for optimizer in catalogue().torch.values():
        if not slots or not slots & optimizer.slots.keys():
            continue
        fitting = [len(order) for _, order in optimizer.orders if set(order) <= set(own)]
        if fitting and max(fitting) >= max(size, 1):
            best = [optimizer] if max(fitting) > size else [*best, optimizer]
            size = max(fitting)
    if not best:
        return None
    # Keys that only a larger optimizer of torch's has make this one of its kin, which lacks some.
    most = max(len({*optimizer.keys} & {*own}) for optimizer in best)
    if any(
        len({*optimizer.keys} & {*own}) > most
        for optimizer in catalogue().torch.values()
        if slots & optimizer.slots.keys() == slots & best[0].slots.keys()
    ):
        return None
    known = {key for optimizer in best for key in optimizer.keys}
    more = ", ".join(key for key in own if key not in known)
    kind = _decide(own, best, values, "the group keys contain those of torch's")
    how = f"{kind.how}; {more} is not torch's" if more else kind.how
    # Whoever adds group keys may keep other state too, so the state itself says what is kept.
    return Kind(kind.name, kind.candidates, how, None, kind.torch)


def _decide(
    own: tuple[str, ...],
    found: list[TorchOptimizer],
    values: Mapping[str, object],
    because: str,
) -> Kind:
    """Tell Adam from AdamW where both have these keys; everything else is certain."""
    names = [optimizer.name for optimizer in found]
    tie = {"Adam", "AdamW"} <= set(names)
    if tie and isinstance(values.get(DECOUPLED), Unknown):
        because = f"{because} {' and '.join(names)}, which differ only in {DECOUPLED}, unknown here"
    elif tie and DECOUPLED in own:
        value = values.get(DECOUPLED)
        found = [o for o in found if o.name == ("AdamW" if value else "Adam")]
        because = f"{because} {found[0].name}, {DECOUPLED} is {value}"
    elif tie and (ordered := _by_order(own, found)) is not None:
        found = [ordered]
        because = (
            f"{because} Adam and AdamW, in AdamW's order (before 2.7 only the order tells)"
            if ordered.name == "AdamW"
            else f"{because} Adam and AdamW, in Adam's order (before 2.7 only the order tells)"
        )
    else:
        because = f"{because} {' and '.join(names)}"
        if tie:
            because = f"{because}, which differ only in {DECOUPLED} (2.7)"
    first = found[0]
    chosen = tuple(optimizer.name for optimizer in found)
    return Kind(" or ".join(chosen), chosen, because, first.slots, tuple(found), first.global_state)


def _by_order(own: tuple[str, ...], found: list[TorchOptimizer]) -> TorchOptimizer | None:
    """The one optimizer in whose order the defaults stand, if there is one."""
    mine = [key for key in own if key not in _OFTEN_SET]
    fitting = [
        optimizer
        for optimizer in found
        for _, order in optimizer.orders
        if set(order) == set(own) and [key for key in order if key not in _OFTEN_SET] == mine
    ]
    return fitting[0] if len(fitting) == 1 else None


def _elsewhere(
    own: tuple[str, ...],
    slots: frozenset[str],
    root: str,
    values: Mapping[str, object],
    classes: frozenset[str],
) -> Kind | None:
    for other in catalogue().elsewhere:
        if other.matches(frozenset(own), slots, root, values, classes):
            torch = tuple(catalogue().torch[n] for n in other.like if n in catalogue().torch)
            keys = sorted(other.keys | other.exact_keys)
            kept = sorted(slots & (other.slots_all | other.slots_any | other.only_slots))
            marks = [f"group keys {', '.join(keys)}"] if own and keys else []
            marks += [f"state slots {', '.join(kept)}"] if kept else []
            named = sorted(other.classes & classes)
            marks += [f"state tensors of class {', '.join(named)}"] if named else []
            origin = f" ({other.origin})" if other.origin else ""
            how = f"{' and '.join(marks)} are those of {other.name}{origin}"
            return Kind(other.name, other.like, how, other.slots or None, torch)
    return None


def _by_slots(
    slots: frozenset[str],
    own: frozenset[str],
    besides: str,
    classes: frozenset[str] = frozenset(),
) -> Kind:
    """Tell from the state alone: every optimizer of torch.optim that could have left it.

    Groups without any of the keys that torch gives all its optimizers are of an optimizer like
    those, which is not torch's and asks for none of torch's keys.
    """
    if not slots:
        how = f"no optimizer known has {besides}" if own else besides
        return Kind(None, (), how)
    found = []
    for optimizer in catalogue().torch.values():
        always = {s for s, rule in optimizer.slots.items() if not rule.when and s != "step"}
        possible = optimizer.slots.keys() | {"step", "fp32_param", "master_param"}
        if always <= slots <= possible and own <= optimizer.keys.keys():
            found.append(optimizer)
    listed = f"state slots {', '.join(sorted(slots))}; {besides}"
    if found:
        names = tuple(optimizer.name for optimizer in found)
        marked = all(optimizer.keys.keys() & _TORCHS_MARKS for optimizer in found)
        foreign = bool(own) and marked and not own & _TORCHS_MARKS
        return Kind(" or ".join(names[:2]), names, listed, None, tuple(found), foreign=foreign)
    if not own and (kind := _elsewhere((), slots, "", {}, classes)) is not None:
        return kind
    return Kind(None, (), f"no optimizer known has {listed}")
