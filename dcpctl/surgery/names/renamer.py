"""Renaming: an entry, a module, or all that a rule matches, everywhere it is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from dcpctl import limits
from dcpctl.errors import NothingSelected, Refused, UsageError, listed, quote
from dcpctl.model.draft import Draft
from dcpctl.model.fqn import strip_wrappers
from dcpctl.model.optimizer.source import UNKNOWN
from dcpctl.model.rename_rules import Literal, Prefix, Rule, Table
from dcpctl.model.sections import MODEL
from dcpctl.surgery.names import mentions, values
from dcpctl.surgery.names.paths import moved_root, renamed_paths
from dcpctl.surgery.names.survey import Names, Site, ambiguous, every_name, survey
from dcpctl.surgery.outcome import Change, Outcome

_NAMES_IN = "names changed in"
#: Optimizer root -> parameter name -> new parameter name.
Mapped = dict[str, dict[str, str]]


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
    outcome = renamed(draft, names, new, renamer.mapped, renamer.models)
    notes, warnings = tuple(renamer.notes()), tuple(renamer.warnings())
    return dataclasses.replace(outcome, notes=notes, warnings=warnings)


def renamed(
    draft: Draft,
    names: Names,
    new: Mapping[str, str],
    mapped: Mapped,
    models: Mapped | None = None,
) -> Outcome:
    """Make the draft with new names: old FQN to new one, and the parameters' names in values.

    Args:
        draft: the checkpoint.
        names: its names.
        new: old FQN to new one; others stay.
        mapped: optimizer root -> parameter name -> new name.
        models: model root -> parameter name -> new name, for what else names parameters.

    Raises:
        Refused: two entries or two parameters would have one name, or something names parameters
            that cannot be renamed with them.
    """
    moved = {fqn: to for fqn, to in new.items() if to != fqn}
    _refuse_collisions({fqn: new.get(fqn, fqn) for fqn in draft.entries}, "entries")
    for known in mapped.values():
        _refuse_collisions(known, "parameters")
    changes = [Change("renamed", fqn, moved[fqn]) for fqn in draft.entries if fqn in moved]
    made = {fqn: dataclasses.replace(e, fqn=new.get(fqn, fqn)) for fqn, e in draft.entries.items()}
    for holder in names.holders:
        known = mapped.get(holder.optimizer, {})
        entry = values.with_names(made[holder.fqn], holder, known)
        if entry is not None:
            made[holder.fqn] = entry
            changes.append(Change(_NAMES_IN, holder.fqn))
    for entry in mentions.remade(draft, names, models or {}):
        made[entry.fqn] = dataclasses.replace(entry, fqn=new.get(entry.fqn, entry.fqn))
        changes.append(Change(_NAMES_IN, entry.fqn))
    planner = renamed_paths(draft.planner_data, moved)
    result = draft.with_entries(made.values(), planner)
    return Outcome(_carried(result, draft, names, new), tuple(changes))


def _carried(result: Draft, draft: Draft, names: Names, new: Mapping[str, str]) -> Draft:
    """Let what was decided of optimizers and models follow their new roots."""
    if not draft.optimizer_of:
        return result
    roots: dict[str, str] = {}
    for fqn, site in names.sites.items():
        if site.of_model and site.model:
            to, below = new.get(fqn, fqn), fqn[len(site.model) :]
            if to.endswith(below):
                roots.setdefault(site.model, to[: -len(below)])
    followed = {raw: roots.get(model, model) for raw, model in draft.optimizer_of.items()}
    return dataclasses.replace(result, optimizer_of=followed)


class _Renamer:
    """Finds the new name of every FQN and of every parameter by one rule.

    Attributes:
        mapped: owner root (an optimizer, or an average kept like one) -> parameter's name -> new.
        models: model root -> parameter's name -> new.
    """

    def __init__(self, names: Names, rule: Rule, *, keys_only: bool) -> None:
        self.names = names
        self.rule = rule
        self.keys_only = keys_only
        self.used: set[str] = set()
        self.mapped: Mapped = {}
        self.models: dict[str, dict[str, str]] = {}
        self.mentioned = {raw.root: names.of(raw.root) for raw in names.owners}
        self.asked: dict[str, str] = {}
        self._bare: dict[str, dict[str, str]] = {}
        if not keys_only:
            self._map_models()
            self._map_optimizers()

    def apply(self, name: str, *, of_model: bool) -> str | None:
        """The new name, if the rule is about `name`."""
        if isinstance(self.rule, Prefix) and not self.rule.old and not of_model:
            return None
        found = self.rule.apply(name)
        if found is not None and len(found) > limits.NAME_CHARACTERS:
            raise UsageError(f"{quote(name)} would get a name of {len(found):,} characters")
        if found is not None:
            self.used.add(name)
        return found

    def _map_models(self) -> None:
        """New names of the models' entries."""
        sites: dict[str, dict[str, Site]] = {m.root: {} for m in self.names.sections.models}
        for fqn, site in self.names.sites.items():
            if site.of_model and site.model is not None:
                sites[site.model][fqn] = site
        within: dict[str, list[str]] = {}
        for root, members in sites.items():
            for fqn, site in members.items():
                found = self.apply(fqn, of_model=True)
                if found is None and root:
                    below = self.apply(site.name, of_model=True)
                    if below is not None:
                        within.setdefault(root, []).append(fqn)
                        found = f"{root}.{below}"
                if found is not None:
                    self.asked[fqn] = found
        if len(within) > 1 and isinstance(self.rule, (Literal, Table)):
            raise Refused(
                f"{quote(self.rule)} names parameters of several models: "
                f"{listed([fqns[0] for fqns in within.values()])}",
                hint="give the whole key, with the model that it begins with",
            )
        for root, members in sites.items():
            self._map_model(root, members)

    def _map_model(self, root: str, model: Mapping[str, Site]) -> None:
        """What the new names of one model's entries make of its parameters' names."""
        root_moves = moved_root(root, {f: self.asked.get(f, f) for f in model})
        lost = []
        known = self.models.setdefault(root, {})
        owners = [raw.root for raw in self.names.owners]
        named = {n for o in owners if self._is_of(o, root) for n in self.mentioned[o]}
        for fqn, to in self.asked.items():
            if fqn not in model:
                continue
            name = model[fqn].name
            if root_moves or to == fqn:
                known[name] = name
            elif not root or to.startswith(root + "."):
                known[name] = to[len(root) + 1 :] if root else to
            elif to == name or to.endswith("." + name):
                known[name] = name
            elif name in named:
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

    def _is_of(self, owner: str, model: str) -> bool:
        return any(found.root == model for found in self.names.models_of(owner))

    def _map_optimizers(self) -> None:
        """New names of parameters as each optimizer has them."""
        for owner, mentioned in self.mentioned.items():
            models = self.names.models_of(owner)
            if len(models) > 1:
                self._refuse_ambiguous(owner, [model.root for model in models])
            model = self.models.get(models[0].root, {}) if models else {}
            alone = not models or len(self.names.sections.models) == 1
            known = self.mapped.setdefault(owner, {})
            bare = {strip_wrappers(old): (old, new) for old, new in model.items()}
            for name in mentioned:
                found = model.get(name)
                if found is None and (pair := bare.get(strip_wrappers(name))) is not None:
                    found = _transferred(name, *pair)
                if found is None:
                    root = models[0].root if models else self.names.sections.model_root
                    found = self._by_rules(name, root, alone)
                known[name] = found

    def _refuse_ambiguous(self, owner: str, roots: Sequence[str]) -> None:
        """Refuse where an optimizer may be of several models and it matters of which."""
        new = [
            {name: self.models.get(root, {}).get(name, name) for name in self.mentioned[owner]}
            for root in roots
        ]
        if any(one != new[0] for one in new):
            raise ambiguous(owner, roots)

    def _by_rules(self, name: str, root: str, alone: bool) -> str:
        """The new name of a parameter that the model does not have under this name."""
        if root:
            found = self.apply(f"{root}.{name}", of_model=True)
            if found is not None:
                return found[len(root) + 1 :] if found.startswith(root + ".") else name
        if not alone:
            return name
        found = self.apply(name, of_model=not self.names.sections.model)
        return name if found is None else found

    def fqn(self, fqn: str) -> str:
        """The new name of an entry."""
        site = self.names.sites.get(fqn)
        if fqn in self.asked:
            return self.asked[fqn]
        if site is not None and not site.of_model and not self.keys_only:
            name = self._followed(site)
            if name != site.name:
                return site.under(name)
        of_model = self.names.sections.of.get(fqn) == MODEL or not self.names.sections.of
        found = self.apply(fqn, of_model=of_model)
        return fqn if found is None else found

    def _followed(self, site: Site) -> str:
        """The new name in an optimizer's entry, or in that of a copy of a model."""
        if site.optimizer is not None:
            return self.mapped[site.optimizer].get(site.name, site.name)
        model = site.model or ""
        if model not in self._bare:
            known = self.models.get(model, {})
            self._bare[model] = {strip_wrappers(old): new for old, new in known.items()}
        exact = self.models.get(model, {}).get(site.name)
        return exact or self._bare[model].get(strip_wrappers(site.name), site.name)

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
        known = [pair for names in self.models.values() for pair in names.items()]
        if all(name == to for name, to in known):
            return []
        return [
            f"the optimizer {quote(raw.root)} names parameters in {raw.style}; its names stay"
            for raw in self.names.sections.optimizers
            if raw.style == UNKNOWN
        ]


def _transferred(name: str, old: str, new: str) -> str | None:
    """What becomes of a name that differs from the model's `old` in wrappers before it.

    None where the wrappers stand inside it.
    """
    if name.endswith(f".{old}"):
        return name[: -len(old)] + new
    head = old.removesuffix(name)
    if head != old and new.startswith(head):
        return new[len(head) :]
    return None


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
