"""What an entry is, whatever its key is called: which parameter's, which slot's, which group's.

Two keys with one identity are one thing under two names. Roots (`model.`, `optim.`), the names
that wrappers leave in keys, and whether an optimizer knows parameters by name or by index do not
count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from dcpctl.diff.subject import Subject
from dcpctl.model.fqn import is_index, strip_wrappers
from dcpctl.model.models import below
from dcpctl.model.optimizer import naming
from dcpctl.model.optimizer.source import RawOptimizer
from dcpctl.model.sections import MODEL

#: What it is (`model`, `state`, `group`, `other`), then what tells it from others of that kind.
Identity = tuple[str, ...]

STATE, GROUP, OTHER = "state", "group", "other"


def identities(subject: Subject) -> dict[str, Identity]:
    """Return the identity of every entry, by FQN; entries that share one are left out."""
    found: dict[str, Identity] = {}
    head = common_head(subject.entries)
    sections = subject.sections
    roots = sorted((model.root for model in sections.models), key=len, reverse=True)
    for fqn, section in sections.of.items():
        root = next((root for root in roots if below(fqn, root) is not None), None)
        if section == MODEL and root is not None:
            name = strip_wrappers(below(fqn, root) or "")
            found[fqn] = (MODEL, f"{root}.{name}" if len(roots) > 1 and root else name)
        else:
            found[fqn] = (OTHER, fqn[len(head) :])
    alone = len(sections.optimizers) == 1
    names = parameter_names(subject)
    for raw in subject.sections.optimizers:
        owner = "" if alone else raw.root
        found.update(_state(raw, owner, names.get(raw.root, {})))
        found.update(_groups(raw, owner))
    shared = Counter(found.values())
    return {fqn: one for fqn, one in found.items() if shared[one] == 1 and fqn in subject.entries}


def parameter_names(subject: Subject) -> dict[str, dict[str, str]]:
    """Optimizer root to what its state calls each parameter, to the name without wrappers."""
    found: dict[str, dict[str, str]] = {}
    for parameter in subject.view.parameters:
        found.setdefault(parameter.root, {})[parameter.key] = strip_wrappers(parameter.name)
    return found


def common_head(fqns: Iterable[str]) -> str:
    """Return the first component and its dot where all FQNs have the same one; else nothing."""
    heads = {fqn.partition(".")[0] for fqn in fqns}
    head = heads.pop() if len(heads) == 1 else ""
    return f"{head}." if head and all("." in fqn for fqn in fqns) else ""


def _state(raw: RawOptimizer, owner: str, names: Mapping[str, str]) -> dict[str, Identity]:
    """State entries that hold one slot of one parameter."""
    holders = Counter(entry.fqn for slots in raw.state.values() for entry in slots.values())
    return {
        entry.fqn: (STATE, owner, names.get(key, strip_wrappers(key)), slot)
        for key, slots in raw.state.items()
        for slot, entry in slots.items()
        if entry.parts == 1 and holders[entry.fqn] == 1
    }


def _groups(raw: RawOptimizer, owner: str) -> dict[str, Identity]:
    """Hyperparameters, of a group by its number or of a parameter by its name."""
    found: dict[str, Identity] = {}
    for fqn in raw.fqns:
        place = raw.places.get(fqn)
        if place is None or place.what != naming.GROUPS:
            continue
        if not place.rest:
            found[fqn] = (GROUP, owner)
            continue
        group, key = naming.split_group(place)
        name = str(group) if is_index(str(group)) else strip_wrappers(str(group))
        found[fqn] = (GROUP, owner, name, key or "")
    return found
