"""A draft with some of its entries: what `drop` and `select` come down to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dcpctl.errors import Refused, listed, quote
from dcpctl.model.draft import Draft, EntryDraft
from dcpctl.model.fqn import is_index, strip_wrappers
from dcpctl.model.optimizer.pairing import Model
from dcpctl.model.optimizer.source import RawOptimizer
from dcpctl.surgery.names import values
from dcpctl.surgery.names.survey import Names, Site, ambiguous
from dcpctl.surgery.outcome import Change, Outcome

#: Model root -> names of its parameters, without wrappers.
Parameters = Mapping[str, frozenset[str]]
#: Stands for all names of an optimizer, whatever they are.
_WHOLE = frozenset({"*"})


def keep(
    draft: Draft,
    names: Names,
    stay: set[str],
    *,
    without: Parameters | None = None,
    warnings: Sequence[str] = (),
) -> Outcome:
    """Keep some entries.

    Args:
        draft: the checkpoint.
        names: its names.
        stay: the FQNs to keep.
        without: parameters whose state goes too, and their copies, and whose names leave `params`
            lists and pickled values.
        warnings: sentences for the outcome.

    Raises:
        Refused: the state of one of `without` is known by an index, or it cannot be told whose
            state it is.
    """
    without = without or {}
    gone = _gone(names, without)
    for raw in names.owners:
        if gone.get(raw.root) is _WHOLE:
            stay = stay - set(raw.fqns)
    lost = {
        fqn
        for fqn, site in names.sites.items()
        if (site.optimizer is not None and site.name in gone.get(site.optimizer, ()))
        or (site.copy is not None and _is_among(site, without))
    }
    stay = stay - lost - _lists_that_go(names, stay, without)
    made: dict[str, EntryDraft] = {f: e for f, e in draft.entries.items() if f in stay}
    changes = [Change("dropped", fqn) for fqn in draft.entries if fqn not in stay]
    for holder in names.holders:
        if holder.fqn not in made or not gone.get(holder.optimizer):
            continue
        entry = values.without_names(made[holder.fqn], holder, gone[holder.optimizer])
        if entry is not None:
            made[holder.fqn] = entry
            changes.append(Change("names dropped from", holder.fqn))
    planner = draft.planner_data
    if planner is not None:
        planner = {fqn: path for fqn, path in planner.items() if fqn in made}
    return Outcome(draft.with_entries(made.values(), planner), tuple(changes), (), tuple(warnings))


def _lists_that_go(names: Names, stay: set[str], without: Parameters) -> set[str]:
    """The tensors of copies that are lists in the model's order, where all of the model goes.

    Raises:
        Refused: a part of the model goes, which would renumber such a list.
    """
    found: set[str] = set()
    for copy in names.sections.copies:
        gone = without.get(copy.of)
        tensors = stay & set(copy.names.values())
        if not gone or not tensors or not all(map(is_index, copy.names)):
            continue
        model = next(model for model in names.sections.models if model.root == copy.of)
        if not gone >= {parameter.name for parameter in model.parameters}:
            raise Refused(
                f"{quote(copy.root)} lists a copy of {quote(copy.of or 'the model')} by position, "
                "and leaving one out would renumber the others",
                hint=f"drop the list too: {copy.root}",
            )
        found |= tensors
    return found


def _is_among(site: Site, parameters: Parameters) -> bool:
    return strip_wrappers(site.name) in parameters.get(site.model or "", ())


def _gone(names: Names, without: Parameters) -> dict[str, frozenset[str]]:
    """Owner root to the names that leave it; `_WHOLE` where all that it trains do."""
    found: dict[str, frozenset[str]] = {}
    for raw in names.owners:
        models = names.models_of(raw.root)
        told = [_leaving(names.of(raw.root), model, without) for model in models]
        if any(one != told[0] for one in told):
            raise ambiguous(raw.root, [model.root for model in models])
        if not told or told[0] is None:
            continue
        if is_indexed(raw) and told[0] is not _WHOLE:
            raise Refused(
                f"the optimizer {quote(raw.root)} knows its parameters by their positions, and "
                "leaving one out would renumber the others",
                hint="name them first: dcpctl edit --upgrade --optimizer-keys fqn ...",
            )
        found[raw.root] = told[0]
    return found


def _leaving(named: set[str], model: Model, without: Parameters) -> frozenset[str] | None:
    """Which of an optimizer's names leave with a model's parameters; None: nothing does."""
    gone = without.get(model.root, frozenset())
    if not gone:
        return None
    if gone >= {parameter.name for parameter in model.parameters}:
        return _WHOLE
    leaving = frozenset(name for name in named if strip_wrappers(name) in gone)
    return leaving if leaving or not named else None


def is_indexed(raw: RawOptimizer) -> bool:
    """Whether an optimizer knows its parameters by their positions."""
    named = (param for group in raw.groups for param in group.params)
    return any(map(is_index, raw.state)) or any(map(is_index, named))


def keep_with_state(draft: Draft, names: Names, chosen: set[str]) -> Outcome:
    """Keep entries, the optimizer state of the parameters among them, and their param groups.

    An optimizer or a copy none of whose parameters are among them goes as a whole; one all of
    whose parameters are stays as it is.

    Raises:
        Refused: an optimizer keeps some of its parameters and knows them by indices.
    """
    wanted = parameters_at(names, chosen)
    without: dict[str, frozenset[str]] = {}
    stay: set[str] = set()
    for model in names.sections.models:
        without[model.root] = frozenset(model.names) - wanted.get(model.root, frozenset())
    for raw in names.owners:
        models = names.models_of(raw.root)
        kept = [model for model in models if wanted.get(model.root)]
        if len(models) > 1 and len(kept) not in (0, len(models)):
            raise ambiguous(raw.root, [model.root for model in models])
        if not kept and models:
            continue
        stay.update(raw.fqns)
        for model in kept:
            others = frozenset(map(strip_wrappers, names.of(raw.root)))
            without[model.root] |= others - wanted[model.root]
    for fqn, site in names.sites.items():
        if site.copy is not None and _is_among(site, wanted):
            stay.add(fqn)
    whole = {root: rest for root, rest in without.items() if wanted.get(root)}
    return keep(draft, names, chosen | stay, without=whole)


def parameters_at(names: Names, fqns: set[str]) -> dict[str, frozenset[str]]:
    """The parameters whose model entries are among some FQNs."""
    found: dict[str, set[str]] = {}
    for fqn, site in names.sites.items():
        if site.of_model and site.model is not None and fqn in fqns:
            found.setdefault(site.model, set()).add(strip_wrappers(site.name))
    return {root: frozenset(members) for root, members in found.items()}


def orphaned_state(
    draft: Draft, names: Names, gone: set[str], dropped: Parameters
) -> frozenset[tuple[str, str]]:
    """Those of the dropped parameters whose state stays, each with its model's root."""
    stays: set[tuple[str, str]] = set()
    for raw in names.owners:
        if not set(raw.fqns) - gone:
            continue
        there = {strip_wrappers(name) for group in raw.groups for name in group.params}
        there.update(
            strip_wrappers(site.name)
            for fqn, site in names.sites.items()
            if site.optimizer == raw.root and fqn in draft.entries and fqn not in gone
        )
        stays.update((model.root, name) for model in names.models_of(raw.root) for name in there)
    return frozenset(
        (root, name) for root, members in dropped.items() for name in members
    ) & frozenset(stays)


def remaining_names(draft: Draft, names: Names, gone: set[str]) -> str:
    """A sentence on parameters whose state goes and whose names stay in `params` lists."""
    bare: set[str] = set()
    for raw in names.sections.optimizers:
        before = _with_state(raw, set(draft.entries))
        after = _with_state(raw, set(draft.entries) - gone)
        listed_names = {
            name
            for group in raw.groups
            for name in group.params
            if len(group.params) > 1 or raw.groups_pickled
        }
        if set(raw.fqns) - gone:
            bare |= (before - after) & listed_names
    if not bare:
        return ""
    return (
        f"{len(bare):,} parameters lose optimizer state and stay in params lists, so a strict load "
        f"asks for it: {listed(sorted(bare), 2)}"
    )


def _with_state(raw: RawOptimizer, there: set[str]) -> set[str]:
    return {
        parameter
        for parameter, slots in raw.state.items()
        if slots and all(slot.fqn in there for slot in slots.values())
    }
