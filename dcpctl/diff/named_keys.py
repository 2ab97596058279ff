"""Keys taken apart at the parameter that they name: `optimizer.state.` `layers.0.w` `.exp_avg`."""

from __future__ import annotations

from typing import NamedTuple

from dcpctl.diff.subject import Subject
from dcpctl.model.fqn import is_index
from dcpctl.model.models import below
from dcpctl.model.name_edits import Tokens
from dcpctl.model.sections import MODEL


class NamedKey(NamedTuple):
    """A key of a model or an optimizer, and the parameter in it.

    Attributes:
        root: what the keys of its model or optimizer begin with.
        head: what stands between root and name, with its dots.
        name: the parameter's name as the key has it, wrappers and all; empty if it names none.
        tail: what stands after the name, with its dot.
    """

    root: str
    head: str
    name: str
    tail: str

    @property
    def tokens(self) -> Tokens:
        """The name's components."""
        return tuple(self.name.split("."))

    def same_form(self, other: NamedKey) -> bool:
        """Whether the other key has this one's form: nothing but root and name differ."""
        forms = (self.head.lstrip("."), self.tail), (other.head.lstrip("."), other.tail)
        return forms[0] == forms[1] and is_index(self.name) == is_index(other.name)


def named_keys(subject: Subject) -> dict[str, NamedKey]:
    """Take apart the keys of models and optimizers; those of other tensors are all name."""
    found: dict[str, NamedKey] = {}
    roots = sorted((model.root for model in subject.sections.models), key=len, reverse=True)
    for fqn, section in subject.sections.of.items():
        root = next((root for root in roots if below(fqn, root) is not None), None)
        if section == MODEL and root is not None:
            start = len(root) + 1 if root else 0
            found[fqn] = NamedKey(root, fqn[len(root) : start], fqn[start:], "")
        elif fqn in subject.tensors:
            found[fqn] = NamedKey("", "", fqn, "")
    for raw in subject.sections.optimizers:
        for fqn in raw.fqns:
            found[fqn] = NamedKey(raw.root, fqn[len(raw.root) :], "", "")
        for key, slots in raw.state.items():
            for entry in slots.values():
                found[entry.fqn] = _at(entry.fqn, key, raw.root)
        for group in raw.groups:
            if len(group.params) == 1:
                for key in group.values:
                    fqn = f"{raw.root}.param_groups.{group.params[0]}.{key}".lstrip(".")
                    if fqn in found:
                        found[fqn] = _at(fqn, group.params[0], raw.root)
    return found


def _at(fqn: str, name: str, root: str) -> NamedKey:
    start = len(root)
    place = f"{fqn[start:]}.".find(f".{name}.")
    if place < 0:
        return NamedKey(root, fqn[start:], "", "")
    begin = start + place + 1
    return NamedKey(root, fqn[start:begin], name, fqn[begin + len(name) :])
