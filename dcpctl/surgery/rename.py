"""Renaming: an entry, a module, or all that a rule matches, everywhere it is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from dcpctl.errors import NothingSelected, Refused, listed, quote
from dcpctl.model.draft import Draft
from dcpctl.model.optimizer.source import UNKNOWN
from dcpctl.model.sections import MODEL
from dcpctl.surgery import values
from dcpctl.surgery.names import Names, Site, every_name, survey
from dcpctl.surgery.outcome import Change, Outcome
from dcpctl.surgery.paths import renamed_paths
from dcpctl.surgery.roots import moved_root
from dcpctl.surgery.rules import Prefix, Rule, Table

_NAMES_IN = "names changed in"
#: Optimizer root (None: the model) -> parameter name -> new parameter name.
Mapped = dict[str | None, dict[str, str]]


def rename(draft: Draft, rules: Sequence[Rule], *, keys_only: bool = False) -> Outcome:
    """Rename by rules, each on what the one before it left.

    A rule is about an FQN, or where it is not, about the parameter's name within its model. The new
    name of a parameter goes to its optimizer state, to `params` lists, to
    flattened and pickled param groups and to the planner data. A model that moves as a whole
    (`model.` to `net.`) keeps the names of its parameters, as training code would.

    Args:
        draft: the checkpoint.
        rules: at least one.
        keys_only: rename the FQNs that rules are about, and leave all else as it is.

    Raises:
        NothingSelected: a rule is about nothing, or all names stay as they are.
        Refused: two entries or two parameters would have one name, or it cannot be told what the
            optimizer is to call a parameter.
    """
    now = {fqn: fqn for fqn in draft.entries}
    lists: dict[str, None] = {}
    notes: list[str] = []
    warnings: list[str] = []
    for rule in rules:
        outcome = _rename(draft, rule, keys_only)
        before = {current: first for first, current in now.items()}
        for change in outcome.changes:
            if change.what == _NAMES_IN:
                lists[before[change.fqn]] = None
        for change in outcome.changes:
            if change.what != _NAMES_IN:
                now[before[change.fqn]] = change.to
        notes += outcome.notes
        warnings += outcome.warnings
        draft = outcome.draft
    changes = [Change("renamed", fqn, to) for fqn, to in now.items() if fqn != to]
    changes += [Change(_NAMES_IN, fqn) for fqn in lists]
    if not changes:
        raise NothingSelected("the rename leaves every name as it is")
    return Outcome(draft, tuple(changes), tuple(notes), tuple(dict.fromkeys(warnings)))


def _rename(draft: Draft, rule: Rule, keys_only: bool) -> Outcome:
    names = survey(draft)
    renamer = _Renamer(names, rule, keys_only=keys_only)
    new = {fqn: renamer.fqn(fqn) for fqn, _ in every_name(draft)}
    renamer.settle(new)
    if not renamer.used:
        raise NothingSelected(
            f"no key and no parameter is named by {quote(rule)}",
            hint="dcpctl inspect --keys lists the keys",
        )
    outcome = renamed(draft, names, new, renamer.mapped)
    notes, warnings = tuple(renamer.notes()), tuple(renamer.warnings())
    return dataclasses.replace(outcome, notes=notes, warnings=warnings)


def renamed(draft: Draft, names: Names, new: Mapping[str, str], mapped: Mapped) -> Outcome:
    """Make the draft with new names: old FQN to new one, and the parameters' names in values.

    Raises:
        Refused: two entries or two parameters would have one name.
    """
    moved = {fqn: to for fqn, to in new.items() if to != fqn}
    _refuse_collisions({fqn: new.get(fqn, fqn) for fqn in draft.entries}, "entries")
    for root, known in mapped.items():
        if root is not None:
            _refuse_collisions(known, "parameters")
    changes = [Change("renamed", fqn, moved[fqn]) for fqn in draft.entries if fqn in moved]
    made = {fqn: dataclasses.replace(e, fqn=new.get(fqn, fqn)) for fqn, e in draft.entries.items()}
    for holder in names.holders:
        known = mapped.get(holder.optimizer, {})
        entry = values.with_names(draft.entries[holder.fqn], holder, known)
        if entry is not None:
            made[holder.fqn] = dataclasses.replace(entry, fqn=new.get(holder.fqn, holder.fqn))
            changes.append(Change(_NAMES_IN, holder.fqn))
    planner = renamed_paths(draft.planner_data, moved)
    return Outcome(draft.with_entries(made.values(), planner), tuple(changes))


class _Renamer:
    """Finds the new name of every FQN and of every parameter by one rule."""

    def __init__(self, names: Names, rule: Rule, *, keys_only: bool) -> None:
        self.names = names
        self.rule = rule
        self.keys_only = keys_only
        self.used: set[str] = set()
        self.mapped: Mapped = {}
        self.in_optimizers = names.of_optimizers()
        self.asked: dict[str, str] = {}
        if not keys_only:
            self._map_model()
            self._map_optimizers()

    def apply(self, name: str, *, of_model: bool) -> str | None:
        """The new name, if the rule is about `name`."""
        if isinstance(self.rule, Prefix) and not self.rule.old and not of_model:
            return None
        found = self.rule.apply(name)
        if found is not None:
            self.used.add(name)
        return found

    def _map_model(self) -> None:
        """New names of the model's entries, and what that makes of their parameters' names."""
        root = self.names.root
        model = {f: site for f, site in self.names.sites.items() if site.optimizer is None}
        for fqn, site in model.items():
            found = self.apply(fqn, of_model=True)
            if found is None and root:
                below = self.apply(site.name, of_model=True)
                found = None if below is None else f"{root}.{below}"
            if found is not None:
                self.asked[fqn] = found
        root_moves = moved_root(root, {f: self.asked.get(f, f) for f in model})
        lost = []
        known = self.mapped.setdefault(None, {})
        for fqn, to in self.asked.items():
            name = model[fqn].name
            if root_moves or to == fqn:
                known[name] = name
            elif not root or to.startswith(root + "."):
                known[name] = to[len(root) + 1 :] if root else to
            elif to == name or to.endswith("." + name):
                known[name] = name
            elif name in self.in_optimizers:
                lost.append(fqn)
            else:
                known[name] = name
        if lost:
            raise Refused(
                f"{listed(lost)} would leave the model {quote(root)}, and what the optimizer is to "
                "call it then cannot be told",
                hint="rename inside the model and the model itself in two steps of dcpctl edit, "
                "or pass --keys-only",
            )

    def _map_optimizers(self) -> None:
        """New names of parameters as each optimizer has them."""
        model = self.mapped.get(None, {})
        root = self.names.root
        owners = {raw.root for raw in self.names.sections.optimizers}
        for owner in owners | {holder.optimizer for holder in self.names.holders}:
            known = self.mapped.setdefault(owner, {})
            for name in self.in_optimizers:
                known[name] = model[name] if name in model else self._by_rules(name, root)

    def _by_rules(self, name: str, root: str) -> str:
        """The new name of a parameter that the model does not have under this name."""
        if root:
            found = self.apply(f"{root}.{name}", of_model=True)
            if found is not None:
                return found[len(root) + 1 :] if found.startswith(root + ".") else name
        found = self.apply(name, of_model=not self.names.sections.model)
        return name if found is None else found

    def fqn(self, fqn: str) -> str:
        """The new name of an entry."""
        site = self.names.sites.get(fqn)
        if fqn in self.asked:
            return self.asked[fqn]
        if site is not None and site.optimizer is not None and not self.keys_only:
            name = self.mapped[site.optimizer].get(site.name, site.name)
            if name != site.name:
                return site.under(name)
        of_model = self.names.sections.of.get(fqn) == MODEL or not self.names.sections.of
        found = self.apply(fqn, of_model=of_model)
        return fqn if found is None else found

    def settle(self, new: Mapping[str, str]) -> None:
        """Carry names that the rule gave to optimizer entries to the lists of their optimizer.

        Raises:
            Refused: the entries of one parameter would get several names.
        """
        if self.keys_only:
            return
        direct: dict[tuple[str, str], set[str]] = {}
        for fqn, site in self.names.sites.items():
            if site.optimizer is not None:
                direct.setdefault((site.optimizer, site.name), set()).add(_name_in(new[fqn], site))
        for (owner, name), found in direct.items():
            told = found - {self.mapped[owner].get(name, name), ""}
            if not told:
                continue
            if len(found) > 1:
                raise Refused(
                    f"the optimizer's entries of {quote(name)} would get the names "
                    f"{listed(sorted(found))}",
                    hint="rename the parameter by its own name",
                )
            self.mapped[owner][name] = told.pop()

    def notes(self) -> list[str]:
        """What a map of names was not of use for."""
        if not isinstance(self.rule, Table):
            return []
        idle = [
            old
            for old in self.rule.names
            if not any(name == old or name.startswith(old + ".") for name in self.used)
        ]
        if not idle:
            return []
        return [
            f"{len(idle):,} of the {len(self.rule.names):,} names in {quote(self.rule.source)} "
            f"are not in the checkpoint: {listed(idle)}"
        ]

    def warnings(self) -> list[str]:
        """Optimizers whose names of parameters stay because dcpctl cannot find them."""
        known = self.mapped.get(None, {})
        if all(name == to for name, to in known.items()):
            return []
        return [
            f"the optimizer {quote(raw.root)} names parameters in {raw.style}; its names stay"
            for raw in self.names.sections.optimizers
            if raw.style == UNKNOWN
        ]


def _name_in(fqn: str, site: Site) -> str:
    """The parameter's name in a new FQN of a site; empty where head or tail changed."""
    head, tail = site.head, site.tail
    begin = len(head) + 1 if head else 0
    end = len(fqn) - len(tail) - 1 if tail else len(fqn)
    if (head and not fqn.startswith(head + ".")) or (tail and not fqn.endswith("." + tail)):
        return ""
    return fqn[begin:end]


def _refuse_collisions(new: Mapping[str, str], what: str) -> None:
    taken: dict[str, str] = {}
    clashes: list[str] = []
    for old, to in new.items():
        other = taken.setdefault(to, old)
        if other != old:
            clashes.append(f"{quote(other)} and {quote(old)} would both be {quote(to)}")
    if clashes:
        said = listed(clashes, separator="; ", show=str)
        raise Refused(f"two {what} would become one: {said}")
