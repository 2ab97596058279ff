"""Where the names of parameters stand: in FQNs, in `params` lists, in whole pickled dicts.

A parameter is named in many places at once: `model.<name>`, `optimizer.state.<name>.exp_avg`, a
list `optimizer.param_groups.0.params`, flattened param groups `optimizer.param_groups.<name>.lr`,
or a pickled state dict of torch 1.13 to 2.3. Whoever changes a name changes all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dcpctl.errors import Refused, UsageError, listed, quote
from dcpctl.model.draft import Draft
from dcpctl.model.fqn import Path, is_index
from dcpctl.model.mirrors import Copy
from dcpctl.model.models import below
from dcpctl.model.optimizer import naming
from dcpctl.model.optimizer.catalogue import catalogue
from dcpctl.model.optimizer.naming import Place
from dcpctl.model.optimizer.pairing import Model
from dcpctl.model.optimizer.source import BUCKETS, LOOSE, SLOT_FIRST, UNKNOWN, RawOptimizer
from dcpctl.model.sections import EMA, MODEL, OTHER, SCHEDULER, Sections, classify

#: What the value of a bytes entry is, where it holds names of parameters.
PARAMS, GROUP, GROUPS = "params", "group", "groups"
SLOTS_BY_NAME, STATE_DICT = "slots by name", "state dict"
NAME_LISTS = ("params", "param_names")


@dataclass(frozen=True, slots=True)
class Site:
    """Where an FQN names a parameter: `head.name.tail`.

    Attributes:
        head: what stands before the name, without the dot.
        name: the parameter's name; empty where the FQN names none.
        tail: what stands after the name.
        optimizer: root of the optimizer that the entry belongs to; None for a model or a copy.
        model: root of the model whose parameter is named; None where that is not known.
        copy: root of the copy of a model that the entry belongs to, empty for a key of something
            else (a scheduler) that names a parameter; None for models and optimizers.
    """

    head: str = ""
    name: str = ""
    tail: str = ""
    optimizer: str | None = None
    model: str | None = None
    copy: str | None = None

    @property
    def of_model(self) -> bool:
        """Whether the entry is a model's own tensor."""
        return self.optimizer is None and self.copy is None

    def under(self, name: str) -> str:
        """The FQN with another name of the parameter."""
        return ".".join(part for part in (self.head, name, self.tail) if part)


@dataclass(frozen=True, slots=True)
class Holder:
    """A bytes entry whose value names parameters.

    Attributes:
        fqn: the entry.
        what: one of the constants above.
        optimizer: root of its optimizer.
        index: which item of a pickled list of optimizers it is about; None for all of the value.
    """

    fqn: str
    what: str
    optimizer: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """Every place that names a parameter.

    Attributes:
        sections: the checkpoint's sections.
        sites: FQN to site, for those that name a parameter.
        holders: the bytes entries that name parameters in their values.
    """

    sections: Sections
    sites: dict[str, Site]
    holders: tuple[Holder, ...]

    @property
    def owners(self) -> tuple[RawOptimizer, ...]:
        """The optimizers, and the averages that are kept as optimizers keep state."""
        return (*self.sections.optimizers, *self.sections.averages)

    def models_of(self, owner: str) -> tuple[Model, ...]:
        """The model whose parameters an owner names: none if it has none, several if all fit."""
        sections = self.sections
        roots = {copy.of for copy in sections.copies if copy.root == owner}
        pairing = sections.pairing_of.get(owner)
        if pairing is not None:
            roots = set(pairing.candidates) if pairing.model is None else {pairing.model}
        return tuple(model for model in sections.models if model.root in roots)

    def of(self, owner: str) -> set[str]:
        """The names that an owner's FQNs and lists mention."""
        found = {site.name for site in self.sites.values() if site.optimizer == owner}
        for raw in self.owners:
            if raw.root == owner:
                found.update(raw.state, raw.absent)
                for group in raw.groups:
                    found.update(group.params, group.names)
        return {name for name in found if not is_index(name)}


def survey(draft: Draft) -> Names:
    """Find every place that names a parameter.

    Of values, `params` lists and pickled state dicts are read and no others.
    """
    sections = classify(draft)
    sites: dict[str, Site] = {}
    holders: list[Holder] = []
    for fqn, root in _in_models(sections).items():
        sites[fqn] = Site(root, below(fqn, root) or "", model=root)
    for copy in sections.copies:
        for name, fqn in copy.names.items():
            sites[fqn] = _in_copy(fqn, name, copy)
    for raw in (*sections.optimizers, *sections.averages):
        known = raw.state.keys() | {name for group in raw.groups for name in group.params}
        for fqn, place in raw.places.items():
            if place.what == naming.OTHER and raw.style not in (SLOT_FIRST, LOOSE, BUCKETS):
                first, name = _mentioned(place.rest, known)
                if name and not is_index(name):
                    sites[fqn] = _site(fqn, place, first, name, raw.root)
            else:
                _in_optimizer(fqn, place, raw, sites, holders)
        if not raw.places:
            _, _, last = raw.root.rpartition(".")
            index = int(last) if raw.root != raw.fqns[0] else None
            holders.append(Holder(raw.fqns[0], STATE_DICT, raw.root, index))
    sites.update(_elsewhere(draft, sections, sites))
    order = {fqn: number for number, (fqn, _) in enumerate(every_name(draft))}
    held = tuple(holder for holder in holders if holder.fqn in draft.entries)
    ordered = {fqn: sites[fqn] for fqn in sorted(sites, key=lambda fqn: order.get(fqn, -1))}
    return Names(sections, ordered, held)


def ambiguous(optimizer: str, models: Sequence[str]) -> Refused:
    """What to raise where it matters whose optimizer one is, and several models fit equally."""
    between = " and ".join(map(quote, models))
    return Refused(
        f"the optimizer {quote(optimizer)} is ambiguous between {between}",
        hint=f"say which: --optimizer-of {optimizer}={models[0]}",
    )


def every_name(draft: Draft) -> Iterator[tuple[str, Path | None]]:
    """Every FQN with its object path; the planner data may name entries that were lost."""
    planner = draft.planner_data or {}
    for fqn in draft.entries:
        yield fqn, planner.get(fqn)
    for fqn, path in planner.items():
        if fqn not in draft.entries:
            yield fqn, path


def _in_models(sections: Sections) -> dict[str, str]:
    """Every entry of a model that has a name in it, to the model's root."""
    found = {fqn: model.root for model in sections.models for fqn in model.names.values()}
    copied = {fqn for copy in sections.copies for fqn in copy.names.values()}
    roots = sorted((model.root for model in sections.models), key=len, reverse=True)
    for fqn, section in sections.of.items():
        if section == MODEL and fqn not in found and fqn not in copied:
            root = next((root for root in roots if below(fqn, root)), None)
            if root is not None:
                found[fqn] = root
    return found


def _elsewhere(
    draft: Draft, sections: Sections, known: Mapping[str, Site]
) -> Iterator[tuple[str, Site]]:
    """Keys of schedulers and of the job that have a parameter's name as one key of their path."""
    roots: dict[str, list[str]] = {}
    for site in known.values():
        if site.of_model and site.model is not None and "." in site.name:
            roots.setdefault(site.name, []).append(site.model)
    for fqn, path in (draft.planner_data or {}).items():
        if fqn in known or sections.of.get(fqn) not in (SCHEDULER, OTHER, EMA):
            continue
        for depth, key in enumerate(path):
            if depth and len(roots.get(str(key), ())) == 1:
                (model,) = roots[str(key)]
                head, tail = (".".join(map(str, p)) for p in (path[:depth], path[depth + 1 :]))
                yield fqn, Site(head, str(key), tail, model=model, copy="")
                break


def _in_copy(fqn: str, name: str, copy: Copy) -> Site:
    """Where a copy's entry has its parameter's name; it may have wrappers before and in it."""
    head = fqn[: -len(name)].rstrip(".")
    if not fqn.endswith(name):
        head, name = copy.root, below(fqn, copy.root) or ""
    return Site(head, name, model=copy.of, copy=copy.root)


def _in_optimizer(
    fqn: str, place: Place, raw: RawOptimizer, sites: dict[str, Site], holders: list[Holder]
) -> None:
    if raw.style in (BUCKETS, UNKNOWN) or place.what == naming.WHOLE:
        return
    if place.what == naming.GROUPS:
        _in_groups(fqn, place, raw, sites, holders)
    elif not place.rest:
        holders.append(Holder(fqn, SLOTS_BY_NAME, raw.root))
    else:
        first, name = _parameter(place, raw)
        if name and not is_index(name):
            sites[fqn] = _site(fqn, place, first, name, raw.root)


def _in_groups(
    fqn: str, place: Place, raw: RawOptimizer, sites: dict[str, Site], holders: list[Holder]
) -> None:
    if not place.rest:
        holders.append(Holder(fqn, GROUPS, raw.root))
        return
    owner, key = naming.split_group(place)
    if isinstance(owner, str):
        sites[fqn] = _site(fqn, place, 0, owner, raw.root)
    elif key is None:
        holders.append(Holder(fqn, GROUP, raw.root))
    elif key in NAME_LISTS:
        holders.append(Holder(fqn, PARAMS, raw.root))


def _parameter(place: Place, raw: RawOptimizer) -> tuple[int, str]:
    """Where in `place.rest` the parameter's name begins, and the name."""
    if place.bounds:
        return 0, naming.split_nested(place)[0]
    slot_first = raw.style == SLOT_FIRST
    name, slot = naming.split_flat(place.rest, catalogue().known_slots(), slot_first=slot_first)
    if place.what == naming.OTHER and (slot is None or name not in raw.state):
        return 0, ""
    return (1 if slot_first and slot is not None else 0), name


def _mentioned(rest: tuple[str, ...], known: Collection[str]) -> tuple[int, str]:
    """The longest run of components that is a parameter of the optimizer: `meta.<name>.lr`."""
    for length in range(len(rest), 0, -1):
        for first in range(len(rest) - length + 1):
            name = ".".join(rest[first : first + length])
            if name in known:
                return first, name
    return 0, ""


def _site(fqn: str, place: Place, first: int, name: str, root: str) -> Site:
    tokens = fqn.split(".")
    begin = place.begin + first
    end = begin + len(name.split("."))
    return Site(".".join(tokens[:begin]), name, ".".join(tokens[end:]), root)


def with_pairs(draft: Draft, pairs: Iterable[tuple[str, str]]) -> Draft:
    """Let pairs decide which optimizer belongs to which model.

    Args:
        draft: the checkpoint.
        pairs: root of an optimizer and of its model, each as the FQNs begin.

    Raises:
        UsageError: the checkpoint has no such optimizer, or no such model.
    """
    decided = dict(pairs)
    if not decided:
        return draft
    sections = classify(draft)
    optimizers = [raw.root for raw in sections.optimizers]
    models = [*(m.root for m in sections.models), *(copy.root for copy in sections.copies)]
    for what, given, have in (
        ("optimizer", decided.keys(), optimizers),
        ("model", decided.values(), models),
    ):
        wrong = [name for name in given if name not in have]
        if wrong:
            there = listed(have) if have else "none"
            raise UsageError(
                f"--optimizer-of: the checkpoint has no {what} {listed(wrong)}",
                hint=f"its {what}s: {there}",
            )
    return dataclasses.replace(draft, optimizer_of={**draft.optimizer_of, **decided})
