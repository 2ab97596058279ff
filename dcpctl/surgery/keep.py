"""A draft with some of its entries: what `drop` and `select` come down to."""

from __future__ import annotations

from collections.abc import Sequence

from dcpctl.errors import Refused, listed, quote
from dcpctl.model.draft import Draft, EntryDraft
from dcpctl.model.fqn import is_index, strip_wrappers
from dcpctl.model.optimizer.source import RawOptimizer
from dcpctl.surgery import values
from dcpctl.surgery.names import Names
from dcpctl.surgery.outcome import Change, Outcome


def keep(
    draft: Draft,
    names: Names,
    stay: set[str],
    *,
    without: frozenset[str] = frozenset(),
    warnings: Sequence[str] = (),
) -> Outcome:
    """Keep some entries.

    Args:
        draft: the checkpoint.
        names: its names.
        stay: the FQNs to keep.
        without: parameters, without wrappers, whose state goes too and whose names leave `params`
            lists and pickled values.
        warnings: sentences for the outcome.

    Raises:
        Refused: the state of one of `without` is known by an index.
    """
    if without:
        _refuse_indices(names, without)
        lost = {
            fqn
            for fqn, site in names.sites.items()
            if site.optimizer is not None and strip_wrappers(site.name) in without
        }
        stay = stay - lost
    made: dict[str, EntryDraft] = {f: e for f, e in draft.entries.items() if f in stay}
    changes = [Change("dropped", fqn) for fqn in draft.entries if fqn not in stay]
    gone = {name for name in names.of_optimizers() if strip_wrappers(name) in without}
    for holder in names.holders if without else ():
        if holder.fqn not in made:
            continue
        entry = values.without_names(made[holder.fqn], holder, gone)
        if entry is not None:
            made[holder.fqn] = entry
            changes.append(Change("names dropped from", holder.fqn))
    planner = draft.planner_data
    if planner is not None:
        planner = {fqn: path for fqn, path in planner.items() if fqn in made}
    return Outcome(draft.with_entries(made.values(), planner), tuple(changes), (), tuple(warnings))


def keep_with_state(draft: Draft, names: Names, chosen: set[str]) -> Outcome:
    """Keep entries, the optimizer state of the parameters among them, and their param groups.

    Raises:
        Refused: there is an optimizer that knows its parameters by indices.
    """
    wanted = parameters_at(names, chosen)
    others = frozenset(map(strip_wrappers, names.of_optimizers())) - wanted
    _refuse_indices(names, None)
    owned = {fqn for raw in names.sections.optimizers for fqn in raw.fqns}
    stay = {
        fqn
        for fqn in owned
        if fqn not in names.sites or strip_wrappers(names.sites[fqn].name) in wanted
    }
    return keep(draft, names, chosen | stay, without=others)


def parameters_at(names: Names, fqns: set[str]) -> frozenset[str]:
    """The parameters, without wrappers, whose model entries are among some FQNs."""
    return frozenset(
        strip_wrappers(site.name)
        for fqn, site in names.sites.items()
        if site.optimizer is None and fqn in fqns
    )


def orphaned_state(
    draft: Draft, names: Names, gone: set[str], dropped: frozenset[str]
) -> frozenset[str]:
    """Those of the dropped parameters whose state stays."""
    stays = {
        strip_wrappers(site.name)
        for fqn, site in names.sites.items()
        if site.optimizer is not None and fqn in draft.entries and fqn not in gone
    }
    for raw in names.sections.optimizers:
        if set(raw.fqns) - gone:
            for group in raw.groups:
                stays.update(map(strip_wrappers, group.params))
    return dropped & stays


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


def _refuse_indices(names: Names, without: frozenset[str] | None) -> None:
    """Refuse to take parameters out of an optimizer that knows them by their positions."""
    for raw in names.sections.optimizers:
        indexed = any(is_index(key) for key in raw.state) or any(
            is_index(param) for group in raw.groups for param in group.params
        )
        if indexed and (without is None or without):
            raise Refused(
                f"the optimizer {quote(raw.root)} knows its parameters by their positions, and "
                "leaving one out would renumber the others",
                hint="name them first: dcpctl edit --upgrade --optimizer-keys fqn ...",
            )
