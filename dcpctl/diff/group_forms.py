"""Param groups that are the same groups in another form: pickled, by group, or by parameter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dcpctl.diff.subject import Subject
from dcpctl.model.optimizer import naming
from dcpctl.model.optimizer.source import BACKWARD, FLAT

PICKLED, BY_GROUP, BY_PARAMETER = "one pickled list", "by group", "by parameter"


@dataclass(frozen=True, slots=True)
class Regrouped:
    """Param groups whose keys have another form in B.

    Attributes:
        form_a: their form in A, one of the constants above.
        form_b: their form in B.
        keys_a: their keys in A that B has not.
        keys_b: their keys in B that A has not.
    """

    form_a: str
    form_b: str
    keys_a: tuple[str, ...]
    keys_b: tuple[str, ...]

    @property
    def keys(self) -> str | None:
        """How the upgrade that gives A's groups the form of B's is to name parameters."""
        if self.form_b == BY_PARAMETER:
            return "flat"
        return "fqn" if self.form_a == BY_PARAMETER else None


def regrouped(
    a: Subject, b: Subject, removed: Iterable[str], added: Iterable[str]
) -> Regrouped | None:
    """Find the keys of param groups that differ because the groups have another form.

    Args:
        a: one.
        b: the other.
        removed: keys that A alone has.
        added: keys that B alone has.
    """
    if not a.sections.optimizers or not b.sections.optimizers:
        return None
    forms = _form(a), _form(b)
    if forms[0] == forms[1]:
        return None
    keys_a, keys_b = _group_keys(a, removed), _group_keys(b, added)
    return Regrouped(*forms, keys_a, keys_b) if keys_a and keys_b else None


def _form(subject: Subject) -> str:
    if subject.view.param_groups_pickled:
        return PICKLED
    flat = any(raw.style in (FLAT, BACKWARD) for raw in subject.sections.optimizers)
    return BY_PARAMETER if flat else BY_GROUP


def _group_keys(subject: Subject, fqns: Iterable[str]) -> tuple[str, ...]:
    places = ((fqn, subject.sections.places.get(fqn)) for fqn in fqns)
    return tuple(fqn for fqn, place in places if place and place.what == naming.GROUPS)
