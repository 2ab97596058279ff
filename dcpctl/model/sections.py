"""Which part of a training job an entry belongs to: model, optimizer, scheduler and so on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dcpctl.model.fqn import is_index, strip_wrappers
from dcpctl.model.optimizer.collect import collect
from dcpctl.model.optimizer.naming import is_optimizer_name, is_scheduler_name
from dcpctl.model.optimizer.source import CheckpointLike, RawOptimizer

MODEL, OPTIMIZER, SCHEDULER = "model", "optimizer", "scheduler"
DATALOADER, RNG, OTHER = "dataloader", "rng", "other"
SECTIONS = (MODEL, OPTIMIZER, SCHEDULER, DATALOADER, RNG, OTHER)

_DATALOADER = re.compile(r"(?i).*(?:data_?loader|data_?iter|data_?module|dataset|sampler).*")
_RNG = re.compile(r"(?i)(?:.*[_.])?(?:rngs?|random)(?:[_./]?(?:states?|tracker).*|[_./].*)?")
_MODEL_ROOT = re.compile(r"(?i)(?:model|module|state_dict|net|network|ema|generator)s?(?:_\w+)?")
_PARAMETER_LEAF = re.compile(r"(?:.*_)?(?:weight|bias|scale|gamma|beta)s?")
_EXTRA_STATE = "_extra_state"
_MAX_ROOT = 3

# Tensors that modules register as buffers: nothing trains them, so no optimizer knows them.
_BUFFER = re.compile(
    r".*inv_freq|running_(?:mean|var)|num_batches_tracked|freqs?(?:_cis)?|.*(?:cos|sin)_cache[d]?"
    r"|.*_cache|position_ids|token_type_ids|.*mask(?:ed_bias)?|relative_position_index"
    r"|_float_tensor|tokens_per_expert|expert_bias|e_score_correction_bias"
)
_TRAINABLE_DTYPE = re.compile(r"(?:float|bfloat|complex)\d+.*")


@dataclass(frozen=True, slots=True)
class Sections:
    """The sections of a checkpoint.

    Attributes:
        of: FQN to section name, in the order of the entries.
        model_root: what the FQNs of the model that is trained begin with (`model`, `state_dict`,
            `app.model`); empty for a model at top level.
        model: the model's tensors, by name without root and wrappers, to their FQN.
        optimizers: the optimizers found on the way.
    """

    of: Mapping[str, str]
    model_root: str
    model: Mapping[str, str]
    optimizers: tuple[RawOptimizer, ...] = field(repr=False)

    def members(self, section: str) -> tuple[str, ...]:
        """Return the FQNs of one section, in the order of the entries."""
        return tuple(fqn for fqn, name in self.of.items() if name == section)


def classify(checkpoint: CheckpointLike) -> Sections:
    """Tell the section of every entry by names alone.

    The model is where the optimizer's parameter names are found; a checkpoint without such names
    (no optimizer, or an index-keyed one) has its model under a root that is called like one, and
    else at top level. Cost is per entry; of values only `params` of the param groups are read.
    """
    entries = checkpoint.entries
    optimizers = collect(checkpoint)
    optimizer_fqns = {fqn for raw in optimizers for fqn in raw.fqns}
    trained = trained_names(optimizers)
    rest = [fqn for fqn in entries if fqn not in optimizer_fqns]
    tensors = [fqn for fqn in rest if hasattr(entries[fqn], "shape")]
    voted = _root_by_names(tensors, trained)
    root = voted if voted is not None else _root_by_convention(tensors)
    of: dict[str, str] = {}
    model: dict[str, str] = {}
    at_top = voted == "" or (len(tensors) == len(entries) and any(map(_is_parameter, tensors)))
    for fqn in entries:
        if fqn in optimizer_fqns:
            of[fqn] = OPTIMIZER
            continue
        name = _relative(fqn, root)
        is_tensor = hasattr(entries[fqn], "shape")
        ours = name is not None and (bool(root) or strip_wrappers(name) in trained)
        of[fqn] = MODEL if ours else _by_name(fqn)
        if of[fqn] == OTHER and _is_models(fqn, is_tensor, at_top):
            of[fqn] = MODEL
        if of[fqn] == MODEL and is_tensor and name is not None:
            model.setdefault(strip_wrappers(name), fqn)
    return Sections(of, root, model, optimizers)


def trained_names(optimizers: Sequence[RawOptimizer]) -> frozenset[str]:
    """Return the parameter names that optimizers mention, without wrappers; no indices."""
    names: set[str] = set()
    for raw in optimizers:
        for group in raw.groups:
            names.update(group.names or group.params)
        names.update(raw.state, raw.absent)
    return frozenset(strip_wrappers(name) for name in names if not is_index(name))


def is_buffer(name: str, entry: Any) -> bool:
    """Say whether a model's tensor is a buffer by its name or dtype: nothing ever trains it."""
    leaf = name.rpartition(".")[2]
    if _BUFFER.fullmatch(leaf) or _EXTRA_STATE in name:
        return True
    return _TRAINABLE_DTYPE.fullmatch(str(entry.dtype)) is None


def _relative(fqn: str, root: str) -> str | None:
    if not root:
        return fqn
    return fqn[len(root) + 1 :] if fqn.startswith(root + ".") else None


def _root_by_names(tensors: Sequence[str], trained: frozenset[str]) -> str | None:
    """The prefix under which most of the trained parameters are found; None: they are not."""
    votes: Counter[str] = Counter()
    for fqn in tensors:
        components = fqn.split(".")
        for depth in range(min(_MAX_ROOT, len(components))):
            if strip_wrappers(".".join(components[depth:])) in trained:
                votes[".".join(components[:depth])] += 1
                break
    return max(votes, key=lambda root: votes[root]) if votes else None


def _root_by_convention(tensors: Sequence[str]) -> str:
    """The prefix that is called like a model and holds most tensors; empty: top level."""
    votes: Counter[str] = Counter()
    for fqn in tensors:
        components = fqn.split(".")
        for depth, component in enumerate(components[: _MAX_ROOT - 1]):
            if _MODEL_ROOT.fullmatch(component) and len(components) > depth + 1:
                votes[".".join(components[: depth + 1])] += 1
                break
    if not votes:
        return ""
    # `model.embed.weight` beside `lm_head.weight` is one model whose names begin with `model`.
    beside = sum(
        _is_parameter(fqn) and not any(fqn.startswith(root + ".") for root in votes)
        for fqn in tensors
    )
    return "" if beside else max(votes, key=lambda root: votes[root])


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


def _is_models(fqn: str, is_tensor: bool, model_at_top: bool) -> bool:
    """Whether an entry with no other section is the model's (or a second model's)."""
    components = fqn.split(".")
    if _EXTRA_STATE in fqn or (len(components) > 1 and _MODEL_ROOT.fullmatch(components[0])):
        return True
    return is_tensor and (model_at_top or (len(components) > 1 and _is_parameter(fqn)))


def _is_parameter(fqn: str) -> bool:
    return _PARAMETER_LEAF.fullmatch(fqn.rpartition(".")[2]) is not None
