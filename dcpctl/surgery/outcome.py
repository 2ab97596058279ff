"""What a surgery hands back: the new draft and what there is to say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcpctl.model.draft import Draft


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a surgery did.

    Attributes:
        what: `renamed`, `dropped`, `set`, `cast`, `merged`, `names changed in` and `names dropped
            from` (of a list of parameters), `resharded`, or the name of an upgrade step.
        fqn: the entry, as it was called before; the directory for `merged`.
        to: what became of it, in words: the new FQN, `0.001 -> 0.0001`, `float32 -> bfloat16`.
    """

    what: str
    fqn: str
    to: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A draft with what was done to make it.

    Attributes:
        draft: the result.
        changes: what was done, in the order of the entries.
        notes: what else there is to know, a sentence each.
        warnings: what is lost or may surprise, a sentence each.
    """

    draft: Draft
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
