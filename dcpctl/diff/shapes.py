"""Keys that stand for a tensor of another shape or dtype, or for something else than a tensor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dcpctl.diff.subject import Subject
from dcpctl.model.contract import Spec
from dcpctl.model.loading_keys import spec_of


@dataclass(frozen=True, slots=True)
class SpecChange:
    """A key of both that stands for another kind of thing.

    Attributes:
        fqn_a: the key in A.
        fqn_b: the key in B.
        a: what it is in A.
        b: what it is in B.
    """

    fqn_a: str
    fqn_b: str
    a: Spec
    b: Spec

    @property
    def comparable(self) -> bool:
        """Whether the numbers can still be compared: two tensors of one shape."""
        return self.a.is_tensor and self.a.shape == self.b.shape


def changed_specs(a: Subject, b: Subject, pairs: Iterable[tuple[str, str]]) -> list[SpecChange]:
    """Return the pairs of keys that are no tensors of one shape and dtype, nor both objects."""
    found = []
    for fqn_a, fqn_b in pairs:
        one, other = spec_of(a.entries[fqn_a]), spec_of(b.entries[fqn_b])
        if one != other:
            found.append(SpecChange(fqn_a, fqn_b, one, other))
    return found
