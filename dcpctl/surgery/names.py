"""Where the names of parameters stand: in FQNs, in `params` lists, in whole pickled dicts.

A parameter is named in many places at once: `model.<name>`, `optimizer.state.<name>.exp_avg`, a
list `optimizer.param_groups.0.params`, flattened param groups `optimizer.param_groups.<name>.lr`,
or a pickled state dict of torch 1.13 to 2.3. Whoever changes a name changes all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dcpctl.model.draft import Draft
from dcpctl.model.fqn import Path, is_index
from dcpctl.model.optimizer import naming
from dcpctl.model.optimizer.catalogue import catalogue
from dcpctl.model.optimizer.naming import Place
from dcpctl.model.optimizer.source import BUCKETS, SLOT_FIRST, UNKNOWN, RawOptimizer
from dcpctl.model.sections import MODEL, Sections, classify

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
        optimizer: root of the optimizer that the entry belongs to; None for the model.
    """

    head: str = ""
    name: str = ""
    tail: str = ""
    optimizer: str | None = None

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
    """

    fqn: str
    what: str
    optimizer: str


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
    def root(self) -> str:
        """What the model's FQNs begin with; empty for a model at top level."""
        return self.sections.model_root

    def of_optimizers(self) -> set[str]:
        """The names that optimizers' FQNs and lists mention."""
        found = {site.name for site in self.sites.values() if site.optimizer is not None}
        for raw in self.sections.optimizers:
            found.update(raw.state, raw.absent)
            for group in raw.groups:
                found.update(group.params, group.names)
        return {name for name in found if not is_index(name)}


def survey(draft: Draft) -> Names:
    """Find every place that names a parameter.

    Of values, `params` lists and pickled state dicts are read and no others.
    """
    sections = classify(draft)
    optimizers = {raw.root: raw for raw in sections.optimizers}
    sites: dict[str, Site] = {}
    holders: list[Holder] = []
    for fqn, path in every_name(draft):
        place = naming.locate(fqn, path)
        raw = optimizers.get(place.root) if place else None
        if place is not None and place.what == naming.WHOLE and fqn in draft.entries:
            if raw is not None or f"{fqn}.0" in optimizers:
                holders.append(Holder(fqn, STATE_DICT, fqn))
        elif place is not None and raw is not None:
            _in_optimizer(fqn, place, raw, sites, holders)
        elif sections.of.get(fqn) == MODEL:
            name = _below(fqn, sections.model_root)
            if name:
                sites[fqn] = Site(sections.model_root, name)
    held = tuple(holder for holder in holders if holder.fqn in draft.entries)
    return Names(sections, sites, held)


def every_name(draft: Draft) -> Iterator[tuple[str, Path | None]]:
    """Every FQN with its object path; the planner data may name entries that were lost."""
    planner = draft.planner_data or {}
    for fqn in draft.entries:
        yield fqn, planner.get(fqn)
    for fqn, path in planner.items():
        if fqn not in draft.entries:
            yield fqn, path


def _below(fqn: str, root: str) -> str:
    if not root:
        return fqn
    return fqn[len(root) + 1 :] if fqn.startswith(root + ".") else ""


def _in_optimizer(
    fqn: str, place: Place, raw: RawOptimizer, sites: dict[str, Site], holders: list[Holder]
) -> None:
    if raw.style in (BUCKETS, UNKNOWN):
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
    if place.what == naming.OTHER:
        if slot is None or (name not in raw.state and naming.STATE not in place.rest[1:]):
            return 0, ""
        if naming.STATE in place.rest[1:] and not slot_first:
            name = ".".join(place.rest[: place.rest.index(naming.STATE, 1)])
    return (1 if slot_first and slot is not None else 0), name


def _site(fqn: str, place: Place, first: int, name: str, root: str) -> Site:
    tokens = fqn.split(".")
    begin = len(tokens) - len(place.rest) + first
    end = begin + len(name.split("."))
    return Site(".".join(tokens[:begin]), name, ".".join(tokens[end:]), root)
