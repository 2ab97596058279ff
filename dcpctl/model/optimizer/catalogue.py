"""What is known of optimizers: the group keys, defaults and state slots of every torch release.

The facts are data: `_data/optimizers.json` (all of torch.optim, made by
tools/make_optimizer_data.py from the optimizers themselves) and `_data/optimizers_elsewhere.json`
(optimizers from elsewhere, by what their sources name their group keys and slots).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

#: Not by importlib.resources, whose import takes longer than all the rest of this module.
DATA = Path(__file__).resolve().parent.parent.parent / "_data"

# Group keys that others add to any optimizer's: torch.optim.lr_scheduler (initial_lr and the
# cyclic schedulers'), named parameters (torch 2.6), and names that people give groups.
FOREIGN_KEYS = frozenset(
    {
        *("params", "param_names", "name", "initial_lr", "max_lr", "min_lr", "swa_lr"),
        *("base_momentum", "max_momentum"),
    }
)


@dataclass(frozen=True, slots=True)
class SlotRule:
    """When an optimizer keeps a state slot for a parameter.

    Attributes:
        shape: `param` (the parameter's shape), `scalar` (no dimension or one number) or `other`.
        when: group keys that must all be truthy, else the slot is not kept.
        min_ndim: kept only for parameters with at least so many dimensions.
        max_ndim: kept only for parameters with at most so many dimensions.
        scale: the slot whose numbers scale this one's, where these may be integer codes.
        algorithms: kept only in groups whose key `algorithm` is one of these (Dion); empty: in all.
        optional: may be missing or None without anything being lost.
    """

    shape: str = "other"
    when: tuple[str, ...] = ()
    min_ndim: int = 0
    max_ndim: int | None = None
    scale: str = ""
    algorithms: tuple[str, ...] = ()
    optional: bool = False

    def holds_for(self, values: Mapping[str, object], ndim: int | None) -> bool:
        """Say whether the slot is kept for a parameter of `ndim` dimensions in such a group.

        An unknown `ndim` (None) keeps no slot that depends on it.
        """
        if not all(values.get(key) for key in self.when):
            return False
        if self.algorithms and values.get("algorithm") not in self.algorithms:
            return False
        if ndim is None:
            return self.min_ndim == 0 and self.max_ndim is None
        return ndim >= self.min_ndim and (self.max_ndim is None or ndim <= self.max_ndim)


@dataclass(frozen=True, slots=True)
class KeyHistory:
    """One group key of a torch optimizer.

    Attributes:
        first: first release that has it.
        defaults: (release, default) for that release and each that changed it.
    """

    first: str
    defaults: tuple[tuple[str, object], ...]

    def default_at(self, release: str) -> object:
        """Return the default in a release (which must not be older than `first`)."""
        wanted = version_key(release)
        value = self.defaults[0][1]
        for since, default in self.defaults:
            if version_key(since) <= wanted:
                value = default
        return value


@dataclass(frozen=True, slots=True)
class TorchOptimizer:
    """An optimizer of torch.optim.

    Attributes:
        name: class name.
        first: first catalogued release that has it.
        keys: group keys without `params`.
        orders: (release, group keys in their order) for each release that changed it.
        slots: state slots.
        global_state: one state for all parameters, kept under the first (LBFGS).
    """

    name: str
    first: str
    keys: Mapping[str, KeyHistory]
    orders: tuple[tuple[str, tuple[str, ...]], ...]
    slots: Mapping[str, SlotRule]
    global_state: bool

    def keys_at(self, release: str) -> tuple[str, ...]:
        """Return the group keys of a release, in their order."""
        wanted = version_key(release)
        found: tuple[str, ...] = ()
        for since, order in self.orders:
            if version_key(since) <= wanted:
                found = order
        return found


@dataclass(frozen=True, slots=True)
class OtherOptimizer:
    """An optimizer from elsewhere, with what it is known by.

    Attributes:
        name: as shown to people.
        origin: where it comes from, for the sentence that says how it was told.
        like: class names that it may be, best first.
        root: what its FQNs begin with, where only its framework names them so; else empty.
        keys: group keys that it must have.
        exact_keys: the group keys that it has, no more and no fewer; empty when unknown.
        slots_all: state slots that must be there.
        slots_any: state slots of which one must be there.
        only_slots: the only state slots that it may have; empty when unknown.
        slots: rules of its state slots; empty when they depend on too much.
        classes: tensor subclasses of which its state must be one (torchao); empty for plain state.
        betas: how many `betas` it must have; None when that tells nothing.
        second_beta: whether the second one must be other than 0; None when that tells nothing.
    """

    name: str
    origin: str
    like: tuple[str, ...]
    root: str = ""
    keys: frozenset[str] = frozenset()
    exact_keys: frozenset[str] = frozenset()
    slots_all: frozenset[str] = frozenset()
    slots_any: frozenset[str] = frozenset()
    only_slots: frozenset[str] = frozenset()
    slots: Mapping[str, SlotRule] = field(default_factory=dict)
    classes: frozenset[str] = frozenset()
    betas: int | None = None
    second_beta: bool | None = None

    def matches(
        self,
        keys: frozenset[str],
        slots: frozenset[str],
        root: str,
        values: Mapping[str, object],
        classes: frozenset[str],
    ) -> bool:
        """Say whether group keys (without foreign ones) and state slots can be this one's.

        Without keys (no param groups were saved) the slots alone must be telling.
        """
        if self.root and self.root != root:
            return False
        if self.classes and not self.classes & classes:
            return False
        betas = values.get("betas")
        numbers = betas if isinstance(betas, (tuple, list)) else ()
        if self.betas is not None and len(numbers) != self.betas:
            return False
        if self.second_beta is not None and self.second_beta is not any(numbers[1:]):
            return False
        if not self.keys <= keys and (keys or self.exact_keys):
            return False
        if self.exact_keys and self.exact_keys != keys:
            return False
        if not keys and not (self.slots_all or self.slots_any or self.only_slots):
            return False
        if not self.slots_all <= slots or (self.slots_any and not self.slots_any & slots):
            return False
        return not self.only_slots or (bool(slots) and slots <= self.only_slots)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that is known.

    Attributes:
        releases: torch releases, oldest first.
        torch: torch.optim's optimizers by class name.
        elsewhere: the others, the most telling first.
    """

    releases: tuple[str, ...]
    torch: Mapping[str, TorchOptimizer]
    elsewhere: tuple[OtherOptimizer, ...]

    def release_for(self, target: str) -> str:
        """Return the newest catalogued release whose minor version is not newer than `target`'s.

        Group keys change only with minor releases. A target older than all gives the oldest.
        """
        wanted = version_key(target)[:2]
        found = self.releases[0]
        for release in self.releases:
            if version_key(release)[:2] <= wanted:
                found = release
        return found

    def known_slots(self) -> frozenset[str]:
        """Return every slot name of every optimizer known, and Megatron's master weights."""
        names = {"fp32_param", "master_param"}
        for optimizer in self.torch.values():
            names.update(optimizer.slots)
        for other in self.elsewhere:
            names |= {*other.slots, *other.slots_all, *other.slots_any, *other.only_slots}
        return frozenset(names)


@lru_cache(maxsize=256)
def version_key(release: str) -> tuple[int, ...]:
    """Return the numbers of a release: `2.13.0+cpu` as (2, 13, 0), `2.14.0a0` as (2, 14, 0)."""
    numbers: list[int] = []
    for part in release.split("+")[0].split(".")[:3]:
        digits = ""
        for character in part:
            if character not in "0123456789":
                break
            digits += character
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers) or (0,)


def _default(value: Any) -> object:
    """Undo the JSON form of a default: `__tuple__`, and `__required__` as None."""
    if isinstance(value, dict):
        if "__tuple__" in value:
            return tuple(_default(item) for item in value["__tuple__"])
        return None
    return value


def _rules(slots: Mapping[str, Any]) -> dict[str, SlotRule]:
    return {slot: SlotRule(**_with_tuples(rule)) for slot, rule in slots.items()}


def _with_tuples(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}


def _load(name: str) -> Any:
    return json.loads((DATA / name).read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """Return the catalogue; read from the package once."""
    data = _load("optimizers.json")
    torch = {}
    for name, facts in data["optimizers"].items():
        keys = {
            key: KeyHistory(values[0][0], tuple((r, _default(v)) for r, v in values))
            for key, values in facts["keys"].items()
        }
        orders = tuple((release, tuple(order)) for release, order in facts["order"])
        torch[name] = TorchOptimizer(
            name, facts["first"], keys, orders, _rules(facts["slots"]), facts["global_state"]
        )
    sets = ("keys", "exact_keys", "slots_all", "slots_any", "only_slots", "classes")
    elsewhere = tuple(
        OtherOptimizer(
            name=name,
            origin=facts["from"],
            like=tuple(facts.get("like", (name,))),
            root=facts.get("root", ""),
            slots=_rules(facts.get("slots", {})),
            betas=facts.get("betas"),
            second_beta=facts.get("second_beta"),
            **{key: frozenset(facts.get(key, ())) for key in sets},
        )
        for name, facts in _load("optimizers_elsewhere.json").items()
    )
    return Catalogue(tuple(data["releases"]), torch, elsewhere)
