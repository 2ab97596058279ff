"""Edits of names, token by token: what makes one name of another, and of all names like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from dcpctl.model.fqn import WRAPPERS, is_index

Tokens = tuple[str, ...]

#: Stands for any number in the context of an edit.
ANY_NUMBER = "#"


@dataclass(frozen=True, slots=True)
class Edit:
    """A change that names have in common.

    Attributes:
        old: tokens that go; may be empty.
        new: tokens that take their place; may be empty.
        at: the tokens before the place, from the start of the name, `#` for any number; None for
            every place where `old` stands.
        shift: added to the number after `at`; 0 where the edit is no renumbering.
    """

    old: Tokens
    new: Tokens
    at: Tokens | None = None
    shift: int = 0

    def apply(self, tokens: Tokens) -> Tokens | None:
        """Return the edited name, or None where the edit is not about it."""
        if self.at is None:
            return _replaced(tokens, self.old, self.new)
        place = len(self.at)
        if not _begins(tokens, self.at) or tokens[place : place + len(self.old)] != self.old:
            return None
        if not self.shift:
            return (*tokens[:place], *self.new, *tokens[place + len(self.old) :])
        if place >= len(tokens) or not is_index(tokens[place]):
            return None
        number = int(tokens[place]) + self.shift
        return (*tokens[:place], str(number), *tokens[place + 1 :]) if number >= 0 else None

    @property
    def has_numbers(self) -> bool:
        """Whether it is about one numbered module, and no renumbering of all of them."""
        numbers = any(is_index(token) for token in (*self.old, *self.new, *(self.at or ())))
        return numbers and not self.shift


def edits_between(old: Tokens, new: Tokens) -> list[Edit]:
    """Return the edits that make `new` of `old`, each as general as it can be."""
    found: list[Edit] = []
    for gone, come, before in _changes(old, new):
        context = tuple(ANY_NUMBER if is_index(token) else token for token in before)
        if len(gone) == len(come) == 1 and is_index(gone[0]) and is_index(come[0]):
            found.append(Edit((), (), before, int(come[0]) - int(gone[0])))
        elif gone and not come and all(token in WRAPPERS for token in gone):
            found += [Edit((token,), ()) for token in dict.fromkeys(gone)]
        elif gone and before:
            found.append(Edit(gone, come))
        else:
            found.append(Edit(gone, come, context))
    return found


def distance(old: Tokens, new: Tokens) -> int:
    """Return how many tokens go and come on the way from one name to another."""
    return sum(len(gone) + len(come) for gone, come, _ in _changes(old, new))


def _changes(old: Tokens, new: Tokens) -> list[tuple[Tokens, Tokens, Tokens]]:
    """What goes, what comes in its place, and what stands before it."""
    if old == new:
        return []
    matcher: SequenceMatcher[str] = SequenceMatcher(None, old, new, autojunk=False)
    return [
        (old[a:b], new[c:d], old[:a])
        for what, a, b, c, d in matcher.get_opcodes()
        if what != "equal"
    ]


def _replaced(tokens: Tokens, old: Tokens, new: Tokens) -> Tokens | None:
    """The tokens with every `old` replaced; None if there is none."""
    made: list[str] = []
    place, length, found = 0, len(old), False
    while place < len(tokens):
        if tokens[place : place + length] == old:
            made += new
            place += length
            found = True
        else:
            made.append(tokens[place])
            place += 1
    return tuple(made) if found else None


def _begins(tokens: Sequence[str], context: Sequence[str]) -> bool:
    if len(tokens) < len(context):
        return False
    return all(
        token == wanted or (wanted == ANY_NUMBER and is_index(token))
        for token, wanted in zip(tokens, context, strict=False)
    )
