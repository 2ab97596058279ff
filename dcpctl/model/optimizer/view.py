"""OptimizerView: all that a checkpoint's optimizer entries say, and whether training can resume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from dcpctl.errors import printable
from dcpctl.model.fqn import is_index
from dcpctl.model.optimizer import verdict as verdicts
from dcpctl.model.optimizer.catalogue import SlotRule
from dcpctl.model.optimizer.coverage import Parameter, cover
from dcpctl.model.optimizer.faults import overwritten
from dcpctl.model.optimizer.groups import (
    MissingGroupKey,
    ParamGroup,
    missing_group_keys,
    param_groups,
)
from dcpctl.model.optimizer.kind import DECOUPLED
from dcpctl.model.optimizer.pairing import Model
from dcpctl.model.optimizer.parameters import ModelParameter
from dcpctl.model.optimizer.ranges import impossible, impossible_step
from dcpctl.model.optimizer.rank_steps import MixedSaves, find_mixed
from dcpctl.model.optimizer.shares import Share, steps_in_words, worst
from dcpctl.model.optimizer.source import (
    BUCKETS,
    INDEXED,
    PLAIN,
    UNKNOWN,
    CheckpointLike,
    RawOptimizer,
    StateEntry,
)
from dcpctl.model.optimizer.table import (
    STEP_SLOT,
    MissingState,
    SlotCount,
    missing_state,
    slot_counts,
    steps_of,
)
from dcpctl.model.optimizer.ties import Ties, find_ties
from dcpctl.model.sections import MODEL, Sections, classify, rooted
from dcpctl.model.values import Unknown
from dcpctl.model.witnesses import COUNT, Witnesses, settled, witnesses_of


class OptimizerView:
    """What a checkpoint says of its optimizer, or of all of them together.

    Made from names alone; steps and hyperparameters are read when they are asked for. The cost is
    per entry, whatever the number of chunks.
    """

    def __init__(self, checkpoint: CheckpointLike, sections: Sections | None = None) -> None:
        """Survey a checkpoint.

        Args:
            checkpoint: a `Checkpoint`.
            sections: its sections, where they are known already.
        """
        self.sections = sections or classify(checkpoint)
        self._checkpoint = checkpoint
        self.optimizers: tuple[RawOptimizer, ...] = self.sections.optimizers
        self.model: tuple[ModelParameter, ...] = _parameters_of(
            self.sections.models, several=self.sections.several
        )
        self._parameters = [(raw, self._cover(raw)) for raw in self.optimizers]
        _tell_apart([parameters for _, parameters in self._parameters], self.sections)
        # What the verdict needs has been read by now; steps are read later and do not change it.
        self._blind = frozenset(raw.root for raw in self.optimizers if raw.unknown)

    def _cover(self, raw: RawOptimizer) -> list[Parameter]:
        """What one optimizer trains, of its own model."""
        model = self.sections.model_of(raw.root)
        others = sum(p.model == model.root for p in self.sections.pairings) if model else 0
        parameters = model.parameters if model else ()
        return cover(
            raw,
            parameters,
            self._checkpoint.entries,
            only_optimizer=others == 1,
            class_of=self.class_of,
        )

    def class_of(self, fqn: str) -> str | None:
        """The tensor subclass that an entry holds; None for a plain tensor, and in a draft."""
        held = getattr(self._checkpoint, "packed", {}).get(fqn)
        return None if held is None else held.name

    @cached_property
    def shares(self) -> tuple[Share, ...]:
        """Each optimizer by itself, with its model."""
        paired = self.sections.pairing_of
        return tuple(
            Share(
                paired[raw.root],
                verdicts.judge(
                    found,
                    has_groups=bool(raw.groups),
                    groups_lost=bool(raw.groups_absent),
                    unreadable=raw.root in self._blind,
                ),
                tuple(found),
                lambda: self.step_of,
            )
            for raw, found in self._parameters
        )

    @cached_property
    def by_optimizer(self) -> Mapping[str, tuple[Parameter, ...]]:
        """Optimizer root to its parameters, in the order of its param groups."""
        return {raw.root: tuple(parameters) for raw, parameters in self._parameters}

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Every trained parameter with its state slots, in the order of the param groups."""
        return tuple(p for _, parameters in self._parameters for p in parameters)

    @property
    def style(self) -> str:
        """How the state is named, in words; several styles joined; empty without optimizer."""
        return ", ".join(dict.fromkeys(self._style(raw) for raw in self.optimizers))

    @property
    def roots(self) -> tuple[str, ...]:
        """What each optimizer's FQNs begin with."""
        return tuple(raw.root for raw in self.optimizers)

    @cached_property
    def entries(self) -> dict[str, dict[str, StateEntry]]:
        """Parameter name -> state slot -> what holds it (`.fqn`, `.shape`, `.dtype`)."""
        return {p.name: dict(p.slots) for p in self.parameters}

    @cached_property
    def extra_state(self) -> tuple[str, ...]:
        """Names or indices with state that no param group names: state without parameter."""
        found = []
        for raw, parameters in self._parameters:
            known = {parameter.key for parameter in parameters}
            found += [key for key in raw.state if key not in known]
        return tuple(found)

    @cached_property
    def not_in_model(self) -> tuple[str, ...]:
        """Parameters that the optimizer names and the checkpoint's model does not have.

        Empty where the checkpoint has no model, for indices and buckets, and for an optimizer that
        may be of several models.
        """
        if not self.model:
            return ()
        unsure = {p.optimizer for p in self.sections.pairings if p.ambiguous}
        named = [
            p
            for p in self.parameters
            if p.root not in unsure and not _is_nameless(p) and not self._bucketed(p)
        ]
        return tuple(p.name for p in named if p.fqn is None)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Names of the optimizers found, that of most parameters first."""
        counts: dict[str, int] = {}
        for parameter in self.parameters:
            if parameter.kind.name is not None:
                counts[parameter.kind.name] = counts.get(parameter.kind.name, 0) + 1
        return tuple(sorted(counts, key=lambda name: -counts[name]))

    @property
    def kind(self) -> str | None:
        """The kind of optimizer; several joined with ` + `; None when it cannot be told."""
        return " + ".join(self.kinds) or None

    @cached_property
    def kind_unread(self) -> Unknown | None:
        """What could not be read and leaves the kind in doubt; None where nothing does."""
        doubtful = (p.values[DECOUPLED] for p in self.parameters if DECOUPLED in p.values)
        found = [value for value in doubtful if isinstance(value, Unknown)]
        for raw in self.optimizers:
            found += [gone for gone in raw.state_unknown.values() if not raw.state]
            found += [raw.groups_unknown] if raw.groups_unknown is not None else []
        certain = self.kinds and len(self.candidates) == len(self.kinds)
        return found[0] if found and not certain else None

    @cached_property
    def steps_unread(self) -> tuple[str, ...]:
        """Parameters that keep a step which could not be read."""
        unread = {gone.fqn for gone in self.unknown}
        with_step = (p for p in self.parameters if STEP_SLOT in p.slots)
        return tuple(p.name for p in with_step if p.slots[STEP_SLOT].fqn in unread)

    @property
    def how(self) -> str:
        """How the kind was told, or why it was not."""
        told = dict.fromkeys(parameter.kind.how for parameter in self.parameters)
        return printable("; ".join(clause for clause in told if clause))

    @cached_property
    def candidates(self) -> tuple[str, ...]:
        """Class names that the optimizers may be; as many as kinds when all are certain."""
        names = (name for p in self.parameters for name in p.kind.candidates)
        return tuple(dict.fromkeys(names))

    @cached_property
    def slots(self) -> dict[str, SlotCount]:
        """State slot -> how many parameters have it and how many should."""
        return slot_counts(self.parameters)

    @cached_property
    def missing(self) -> tuple[MissingState, ...]:
        """Every slot that a parameter should have and has not."""
        return missing_state(self.parameters)

    def with_status(self, status: str) -> tuple[str, ...]:
        """Return the names of the trained parameters with a status of `coverage`."""
        return tuple(p.name for p in self.parameters if p.status == status)

    @cached_property
    def tied(self) -> Mapping[str, str]:
        """Second names of trained parameters, whose numbers are equal, to the first names."""
        return self.ties.tied

    @cached_property
    def ties(self) -> Ties:
        """What the numbers say of parameters in no param group that may be second names."""
        asked = self._untrained
        if not asked:
            return Ties()
        paired = {p.model for p in self.sections.pairings}
        models = [m for m in self.sections.models if m.root in paired]
        named = {p.fqn: p for p in _parameters_of(models, several=self.sections.several)}
        entries = self._checkpoint.entries
        found = [find_ties([named[p.fqn] for p in m.parameters], entries, asked) for m in models]
        return Ties(
            {name: first for one in found for name, first in one.tied.items()},
            {name: first for one in found for name, first in one.apart.items()},
            {name: first for one in found for name, first in one.unknown.items()},
        )

    @cached_property
    def frozen(self) -> tuple[str, ...]:
        """Model parameters in no param group and without state, frozen or left out.

        With indices that cannot be named for certain it is empty; see `frozen_count`.
        """
        return tuple(name for name in self._untrained if name not in self.tied)

    @cached_property
    def frozen_count(self) -> int:
        """How many of the model's parameters are in no param group, nameable or not."""
        if self.params_unknown:
            return 0
        if self._nameless and not any(self._bucketed(p) for p in self.parameters):
            paired = {p.model for p in self.sections.pairings}
            models = [m for m in self.sections.models if m.root in paired]
            return max(
                0, len(_parameters_of(models, several=self.sections.several)) - len(self.parameters)
            )
        return len(self.frozen)

    @cached_property
    def step_of(self) -> dict[str, float]:
        """Parameter name -> its step; read from the `step` slots, else from the groups."""
        found: dict[str, float] = {}
        for raw, parameters in self._parameters:
            found.update(steps_of(raw, parameters))
        return found

    @cached_property
    def steps(self) -> dict[float | int, int]:
        """Distinct steps in order, each with the number of parameters that have it."""
        return verdicts.count_steps(self.step_of.values())

    @cached_property
    def witnesses(self) -> Witnesses:
        """What says at which step the job was."""
        return witnesses_of(self._checkpoint, self.sections.of)

    @cached_property
    def job_step(self) -> tuple[str, float] | None:
        """The step that the training job itself counted: (where, value); None if nothing tells it.

        Of several counts it is one that agrees with the optimizer, else one that most agree with;
        without any it is the step in the directory's name.
        """
        at = max((step for step in self.steps if step == step), default=None)
        counts = [w for w in self.witnesses.sure if w.kind == COUNT]
        found = settled(counts, at) or settled(self.witnesses.sure, at)
        return None if found is None else (found.source, found.step)

    @cached_property
    def param_groups(self) -> tuple[ParamGroup, ...]:
        """The param groups with all hyperparameters, read now."""
        return tuple(
            group for raw, parameters in self._parameters for group in param_groups(raw, parameters)
        )

    @property
    def param_groups_pickled(self) -> bool:
        """Whether `param_groups` is one pickled list, as torch 1.13 and 2.0 to 2.3 write it.

        Such a list loads through torch's fallback (2.5 and later), a missing key with it.
        """
        return any(raw.groups_pickled for raw in self.optimizers)

    @cached_property
    def groups_lost(self) -> tuple[str, ...]:
        """Parameters whose hyperparameters the planner data name and no entry holds."""
        return tuple(name for raw in self.optimizers for name in raw.groups_absent)

    @property
    def unknown(self) -> tuple[Unknown, ...]:
        """What was asked for and could not be read, once an entry; asks for steps and groups."""
        _ = self.steps, self.param_groups
        found = {gone.fqn: gone for raw in self.optimizers for gone in raw.unknown}
        return tuple(found.values())

    @property
    def unreadable(self) -> tuple[str, ...]:
        """The entries of what is unknown."""
        return tuple(gone.fqn for gone in self.unknown)

    @property
    def groups_unread(self) -> Unknown | None:
        """What holds param groups and could not be read; None where all could."""
        found = (raw.groups_unknown for raw in self.optimizers)
        return next((gone for gone in found if gone is not None), None)

    @property
    def params_unknown(self) -> bool:
        """Whether which parameters are trained could not be read of some group."""
        return any(raw.params_unknown for raw in self.optimizers)

    def missing_group_keys(self, target: str) -> list[MissingGroupKey]:
        """Return the group keys that a torch release will ask for and not find here.

        Args:
            target: a torch release such as `2.13`.
        """
        return missing_group_keys(self.param_groups, target)

    def rule(self, parameter: str, slot: str) -> SlotRule | None:
        """Return what the parameter's optimizer is known to keep in a slot, if it is known."""
        found = self._by_name.get(parameter)
        return None if found is None else found.rule(slot)

    @cached_property
    def overwritten(self) -> str:
        """How index-keyed state of several ranks shows to be mixed up, a clause; else empty."""
        for raw, own in self._parameters:
            model = self.sections.model_of(raw.root)
            if raw.style == INDEXED and model is not None:
                keys = {parameter.key for parameter in own}
                clause = overwritten(raw, keys, model.parameters, self._checkpoint.entries)
                if clause:
                    return clause
        return ""

    @cached_property
    def mixed_saves(self) -> tuple[MixedSaves, ...]:
        """Ranks whose files are of an older save, for each optimizer whose steps show it."""
        entries = self._checkpoint.entries
        found = (find_mixed(own, entries, lambda: self.step_of) for _, own in self._parameters)
        return tuple(mixed for mixed in found if mixed is not None)

    @cached_property
    def flaws(self) -> tuple[str, ...]:
        """What else makes a resume from this wrong, a clause each."""
        found = [self.overwritten] if self.overwritten else []
        found += [mixed.words for mixed in self.mixed_saves]
        tensors = [
            f for f in self.sections.members(MODEL) if hasattr(self._checkpoint.entries[f], "shape")
        ]
        gaps = [gap for f in tensors if (gap := getattr(self._checkpoint.entries[f], "gap", ""))]
        if gaps:
            verb = "is" if len(gaps) == 1 else "are"
            found.append(
                f"{len(gaps):,} of {len(tensors):,} model tensors {verb} not all here: {gaps[0]}"
            )
        return tuple(found)

    @cached_property
    def verdict(self) -> str:
        """`complete`, `partial` or `absent`; of several optimizers the worst."""
        if len(self.shares) > 1:
            return verdicts.PARTIAL if self.flaws else worst(self.shares)
        return verdicts.judge(
            self.parameters,
            has_groups=self._has_groups,
            groups_lost=bool(self.groups_lost),
            unreadable=bool(self._blind),
            flaws=bool(self.flaws),
        )

    @property
    def only_bare(self) -> bool:
        """Whether all that is missing may never have been: the whole state of some parameters."""
        wrong = self.groups_lost or self.unknown or self.flaws
        return not wrong and verdicts.only_bare(self.parameters)

    @cached_property
    def settings_wrong(self) -> tuple[str, ...]:
        """Hyperparameters and steps that no optimizer can have had; reads them.

        All state may be here beside them, so they do not change the verdict on the state.
        """
        settings = dict.fromkeys(
            f"{wrong.key} is {wrong.value!r}: {wrong.why}"
            for group in self.param_groups
            for wrong in impossible(group.values, group.kind.candidates)
        )
        return (*settings, *(f"step is {step:g}" for step in self.steps if impossible_step(step)))

    @cached_property
    def sentence(self) -> str:
        """Whether training can be resumed, in a sentence or two."""
        return verdicts.sentence(
            self.verdict,
            self.kind,
            self.parameters,
            list(self.steps),
            has_groups=self._has_groups,
            groups_lost=self.groups_lost,
            unread=self.unknown,
            flaws=(*self.flaws, *self.settings_wrong),
            job_step=self.job_step,
            unknown=[raw.root for raw in self.optimizers if raw.style == UNKNOWN],
            at=steps_in_words(self.shares),
        )

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What else a person should know, a sentence each."""
        told = [
            p.sentence + "; --optimizer-of says which."
            for p in self.sections.pairings
            if p.ambiguous
        ]
        found = verdicts.notes(
            self.optimizers,
            has_groups=self._has_groups or self.groups_unread is not None,
            frozen=self.frozen,
            frozen_count=self.frozen_count,
            ties=self.ties,
            extra_state=self.extra_state,
            not_in_model=self.not_in_model,
            overwritten=bool(self.overwritten),
            train_mode=any(p.values.get("train_mode") is True for p in self.parameters),
        )
        return (*told, *found)

    @cached_property
    def _by_name(self) -> Mapping[str, Parameter]:
        return {parameter.name: parameter for parameter in self.parameters}

    @property
    def _has_groups(self) -> bool:
        return any(raw.groups for raw in self.optimizers)

    @cached_property
    def _nameless(self) -> bool:
        """Whether trained parameters are known by indices only (or by buckets)."""
        return any(_is_nameless(p) or self._bucketed(p) for p in self.parameters)

    @cached_property
    def _untrained(self) -> tuple[str, ...]:
        """The model's parameters that no optimizer names."""
        if self._nameless or self.params_unknown or not self.parameters:
            return ()
        trained = {parameter.fqn for parameter in self.parameters}
        paired = {p.model for p in self.sections.pairings}
        models = [m for m in self.sections.models if m.root in paired]
        return tuple(
            p.name
            for p in _parameters_of(models, several=self.sections.several)
            if p.fqn not in trained
        )

    def _bucketed(self, parameter: Parameter) -> bool:
        return any(raw.style == BUCKETS and raw.root == parameter.root for raw in self.optimizers)

    @staticmethod
    def _style(raw: RawOptimizer) -> str:
        """Without state the param groups tell whether parameters have names."""
        params = [param for group in raw.groups for param in group.params]
        indexed = bool(params) and all(is_index(param) for param in params)
        return INDEXED if raw.style == PLAIN and indexed else raw.style


def _parameters_of(models: Sequence[Model], *, several: bool) -> tuple[ModelParameter, ...]:
    """The parameters of several models, as `Sections.model` calls them."""
    counts = Counter(p.name for model in models for p in model.parameters)
    return tuple(
        replace(p, name=rooted(model.root, p.name)) if several or counts[p.name] > 1 else p
        for model in models
        for p in model.parameters
    )


def _tell_apart(found: Sequence[Sequence[Parameter]], sections: Sections) -> None:
    """Give parameters the name with their model's root, where a name alone tells none.

    That of an optimizer without a model gets the optimizer's own root.
    """
    counts = Counter(p.name for parameters in found for p in parameters)
    for parameters in found:
        for parameter in parameters:
            if sections.several or counts[parameter.name] > 1:
                model = sections.model_of(parameter.root)
                root = parameter.root if model is None or parameter.fqn is None else model.root
                parameter.name = rooted(root, parameter.name)
                if parameter.module:
                    parameter.lies_in(rooted(root, parameter.module))


def _is_nameless(parameter: Parameter) -> bool:
    """Whether a parameter is known by an index alone."""
    name = parameter.name.removeprefix(f"{parameter.root}.")
    return parameter.fqn is None and is_index(name)
