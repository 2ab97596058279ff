"""Which part of a training job an entry belongs to: model, optimizer, scheduler and so on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dcpctl.model.fqn import is_index, strip_wrappers
from dcpctl.model.mirrors import (
    Copy,
    copies_of,
    is_average,
    mirrors,
    repeats_weights,
    shows_copy,
)
from dcpctl.model.models import EXTRA_STATE, Finder, is_buffer, is_model_root, is_parameter
from dcpctl.model.optimizer.collect import collect
from dcpctl.model.optimizer.naming import Place, is_optimizer_name, is_scheduler_name
from dcpctl.model.optimizer.pairing import Claim, Model, Pairing, pair
from dcpctl.model.optimizer.source import CheckpointLike, RawOptimizer, shape_behind

MODEL, OPTIMIZER, SCHEDULER = "model", "optimizer", "scheduler"
DATALOADER, RNG, OTHER, EMA = "dataloader", "rng", "other", "ema"
SECTIONS = (MODEL, OPTIMIZER, EMA, SCHEDULER, DATALOADER, RNG, OTHER)

__all__ = ["SECTIONS", "Sections", "classify", "is_buffer"]

_DATALOADER = re.compile(r"(?i).*(?:data_?loader|data_?iter|data_?module|dataset|sampler).*")
#: torch.optim.lr_scheduler.LRScheduler.state_dict has both.
_COUNTERS = (".last_epoch", "._step_count")
_RNG = re.compile(r"(?i)(?:.*[_.])?(?:rngs?|random)(?:[_./]?(?:states?|tracker).*|[_./].*)?")


@dataclass(frozen=True)
class Sections:
    """The sections of a checkpoint.

    Attributes:
        of: FQN to section name, in the order of the entries.
        models: the models, that of the first optimizer first; copies are none of them.
        copies: averages and other copies of models, which have no optimizer of their own.
        optimizers: the optimizers found on the way.
        averages: copies that are kept in the form of an optimizer's state.
        pairings: for each optimizer, in order, which model it trains.
    """

    of: Mapping[str, str]
    models: tuple[Model, ...]
    copies: tuple[Copy, ...]
    optimizers: tuple[RawOptimizer, ...] = field(repr=False)
    averages: tuple[RawOptimizer, ...] = field(repr=False)
    pairings: tuple[Pairing, ...] = ()

    def members(self, section: str) -> tuple[str, ...]:
        """Return the FQNs of one section, in the order of the entries."""
        return tuple(fqn for fqn, name in self.of.items() if name == section)

    @property
    def model_root(self) -> str:
        """What the FQNs of the first model begin with; empty for a model at top level."""
        return self.models[0].root if self.models else ""

    @cached_property
    def model(self) -> Mapping[str, str]:
        """The models' tensors, by name without root and wrappers, to their FQN.

        A name begins with its model's root where several models are trained, or have it.
        """
        counts = Counter(name for model in self.models for name in model.names)
        return {
            rooted(model.root, name) if self.several or counts[name] > 1 else name: fqn
            for model in self.models
            for name, fqn in model.names.items()
        }

    @cached_property
    def several(self) -> bool:
        """Whether several models have an optimizer, or may have: names tell no parameter then."""
        roots = {root for p in self.pairings for root in (p.model, *p.candidates)}
        return len(roots - {None}) > 1

    @cached_property
    def pairing_of(self) -> Mapping[str, Pairing]:
        """Optimizer root to its pairing."""
        return {pairing.optimizer: pairing for pairing in self.pairings}

    @cached_property
    def places(self) -> Mapping[str, Place]:
        """Where in an optimizer, or in an average kept like one, each of their names stands."""
        owners = (*self.optimizers, *self.averages)
        return {fqn: place for raw in owners for fqn, place in raw.places.items()}

    def model_of(self, optimizer: str) -> Model | None:
        """Return the model of an optimizer, by its root; None if none or several fit."""
        pairing = self.pairing_of.get(optimizer)
        if pairing is None or pairing.model is None:
            return None
        return next((model for model in self.models if model.root == pairing.model), None)


def rooted(root: str, name: str) -> str:
    """A parameter's name with what the FQNs of its model begin with."""
    return f"{root}.{name}" if root else name


def classify(checkpoint: CheckpointLike) -> Sections:
    """Tell the section of every entry, and which optimizer is of which model.

    By structure where it tells (what holds `state` and `param_groups`, where the names of
    parameters are found, what mirrors what), and by names for the rest. Cost is per entry; of
    values only `params` of the param groups are read.

    Args:
        checkpoint: a `Checkpoint` or a draft; of a draft what a person said of optimizers and
            models decides.
    """
    decided: Mapping[str, str] = getattr(checkpoint, "optimizer_of", {})
    entries = checkpoint.entries
    found = collect(checkpoint)
    averages = tuple(raw for raw in found if is_average(raw))
    optimizers = tuple(raw for raw in found if raw not in averages)
    of = {fqn: OPTIMIZER for raw in optimizers for fqn in raw.fqns}
    of.update({fqn: EMA for raw in averages for fqn in raw.fqns})
    rest = [fqn for fqn in entries if fqn not in of]
    tensors = [fqn for fqn in rest if hasattr(entries[fqn], "shape")]
    claims = [_claim(raw) for raw in optimizers]
    planner = checkpoint.planner_data or {}
    finder = Finder(entries, tensors, planner, claims)
    by_name = {fqn: _by_name(fqn) for fqn in rest}
    for fqn in _of_schedulers([fqn for fqn in rest if by_name[fqn] == OTHER]):
        by_name[fqn] = SCHEDULER
    ours = {f: by_name[f] == OTHER and _is_models(f, finder) for f in tensors}
    models = finder.models(ours)
    shows = {m.root: shows_copy(m.root, _beside(m, rest)) for m in models}
    pairings = _paired(optimizers, claims, models, shows, decided, entries)
    trained = {root for p in pairings for root in (p.model, *p.candidates) if root is not None}
    copies = [*copies_of(models, trained, shows, entries), *_averages(averages, models)]
    copied = {copy.root for copy in copies}
    heads = tuple(_heads(copy for copy in copies if not copy.same))
    models = [
        model
        for model in models
        if model.root not in copied
        and (model.root in trained or not heads or not f"{model.root}.".startswith(heads))
    ]
    models = _in_order(models, pairings)
    of.update(_sections(rest, models, copies, by_name, ours))
    ordered = {fqn: of[fqn] for fqn in entries}
    return Sections(ordered, tuple(models), tuple(copies), optimizers, averages, pairings)


def _claim(raw: RawOptimizer) -> Claim:
    """What an optimizer says of its model."""
    names = trained_names([raw])
    shapes = {key: shape for key, slots in raw.state.items() if (shape := shape_behind(slots))}
    if names:
        return Claim(raw.root, names, {strip_wrappers(k): s for k, s in shapes.items()})
    groups = tuple(group.params for group in raw.groups if group.params) or (tuple(raw.state),)
    return Claim(raw.root, shapes=shapes, groups=groups if any(groups) else ())


def _paired(
    optimizers: Sequence[RawOptimizer],
    claims: Sequence[Claim],
    models: Sequence[Model],
    shows: Mapping[str, bool],
    decided: Mapping[str, str],
    entries: Mapping[str, Any],
) -> tuple[Pairing, ...]:
    by_root = {model.root: model for model in models}
    raws = {raw.root: raw for raw in optimizers}

    def copied(root: str, of: str) -> bool:
        return shows[root] and not shows[of] and mirrors(by_root[root], by_root[of])

    def same_bytes(optimizer: str, root: str) -> bool:
        return repeats_weights(raws[optimizer], by_root[root], entries)

    return pair(claims, models, decided=decided, copied=copied, same_bytes=same_bytes)


def _averages(raws: Iterable[RawOptimizer], models: Sequence[Model]) -> Iterable[Copy]:
    """Copies that are kept as an optimizer keeps state, each with the model that it averages."""
    for raw in raws:
        names = {
            strip_wrappers(name): entry.fqn
            for name, slots in raw.state.items()
            for entry in slots.values()
            if not entry.is_scalar
        }
        best = max(models, key=lambda m: len(names.keys() & m.names.keys()), default=None)
        if best is not None and names.keys() & best.names.keys():
            yield Copy(raw.root, names, best.root)


def _in_order(models: Sequence[Model], pairings: Sequence[Pairing]) -> list[Model]:
    """The models, those of optimizers first and in the order of these."""
    first = {p.model: number for number, p in reversed(list(enumerate(pairings)))}
    return sorted(models, key=lambda model: first.get(model.root, len(pairings)))


def _sections(
    rest: Sequence[str],
    models: Sequence[Model],
    copies: Sequence[Copy],
    by_name: Mapping[str, str],
    ours: Mapping[str, bool],
) -> Iterable[tuple[str, str]]:
    """The section of every entry that is no optimizer's."""
    named = {fqn for model in models for fqn in model.names.values()}
    roots = tuple(model.root + "." for model in models if model.root)
    named.update(fqn for copy in copies if copy.same for fqn in copy.names.values())
    averaged = [copy for copy in copies if not copy.same]
    copied = {fqn for copy in averaged for fqn in copy.names.values()}
    heads = tuple(_heads(averaged))
    for fqn in rest:
        if fqn in copied:
            yield fqn, EMA
        elif fqn in named:
            yield fqn, MODEL
        elif heads and fqn.startswith(heads):
            yield fqn, EMA
        else:
            named_so = ours[fqn] if fqn in ours else by_name[fqn] == OTHER and _is_called_model(fqn)
            under = bool(roots) and fqn.startswith(roots)
            yield fqn, MODEL if under or named_so else by_name[fqn]


def _heads(copies: Iterable[Copy]) -> Iterable[str]:
    """What everything that belongs to a copy begins with: `ema.` for one in `ema.params`."""
    for copy in copies:
        head = copy.root
        while (parent := head.rpartition(".")[0]) and shows_copy(parent):
            head = parent
        if head:
            yield head + "."


def _beside(model: Model, rest: Iterable[str]) -> list[str]:
    """The keys of what lies in a model's container, or in the one above it."""
    parents = {model.root, model.root.rpartition(".")[0]} - {""}
    split = (fqn.rpartition(".") for fqn in rest)
    return [key for parent, _, key in split if parent in parents]


def trained_names(optimizers: Sequence[RawOptimizer]) -> frozenset[str]:
    """Return the parameter names that optimizers mention, without wrappers; no indices."""
    names: set[str] = set()
    for raw in optimizers:
        for group in raw.groups:
            names.update(group.names or group.params)
        names.update(raw.state, raw.absent)
    return frozenset(strip_wrappers(name) for name in names if not is_index(name))


def _of_schedulers(fqns: Sequence[str]) -> Iterable[str]:
    """What lies in containers that hold what each scheduler of torch's counts in."""
    held = {fqn for fqn in fqns if fqn.endswith(_COUNTERS)}
    heads = tuple(
        head + "."
        for head in {fqn.rpartition(".")[0] for fqn in held}
        if all(head + counter in held for counter in _COUNTERS)
    )
    return [fqn for fqn in fqns if heads and fqn.startswith(heads)]


def _by_name(fqn: str) -> str:
    components = fqn.split(".")[:2]
    if is_optimizer_name(components[0]):
        return OPTIMIZER
    if any(is_scheduler_name(component) for component in components):
        return SCHEDULER
    if any(_DATALOADER.fullmatch(component) for component in components):
        return DATALOADER
    if any(_RNG.fullmatch(component) for component in components):
        return RNG
    return OTHER


def _is_called_model(fqn: str) -> bool:
    """Whether an entry with no other section is called as those of models are."""
    components = fqn.split(".")
    return EXTRA_STATE in fqn or (len(components) > 1 and is_model_root(components[0]))


def _is_models(fqn: str, finder: Finder) -> bool:
    """Whether a tensor with no other section is the model's (or a second model's)."""
    if _is_called_model(fqn) or finder.at_top(fqn):
        return True
    return "." in fqn and is_parameter(fqn) and bool(finder.entries[fqn].shape)
