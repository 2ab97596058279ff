"""Parameters that one of two models calls otherwise: told by shape, by place, and by a system.

No number is compared: training changes them all. Two names are one parameter's where an edit that
makes one of the other does so for others too, and the shapes agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from dcpctl.model.fqn import is_index
from dcpctl.model.name_edits import Edit, Tokens, edits_between

#: Fewer names than this are told by their edits alone.
_FEWEST = 4
_SAMPLES = 48
_NEIGHBOURS = 6
_MOST_EDITS = 48
_MOST_ROUNDS = 64
#: Most edits that are tried on names, in all; models of systematically renamed parameters need
#: far fewer.
_MOST_TRIED = 4_000_000


def renamed_names(a: Mapping[str, Hashable], b: Mapping[str, Hashable]) -> dict[str, str]:
    """Return the names in A that are other names in B.

    Args:
        a: parameters that A alone has, in its order, each with what must agree: its shape.
        b: those that B alone has.
    """
    if sorted(a) > sorted(b):
        # One direction for both, or B might differ from A otherwise than A from B.
        return {new: old for old, new in renamed_names(b, a).items()}
    search = _Search(
        {tuple(name.split(".")): spec for name, spec in a.items()},
        {tuple(name.split(".")): spec for name, spec in b.items()},
    )
    found: dict[str, str] = {}
    for _ in range(_MOST_ROUNDS):
        pairs = search.next()
        if not pairs:
            break
        found.update((".".join(old), ".".join(new)) for old, new in pairs)
    found.update(_by_place(search.a, search.b))
    return found


def _by_place(a: Mapping[Tokens, Hashable], b: Mapping[Tokens, Hashable]) -> dict[str, str]:
    """Pair all names that are left by their order among those of one shape in one layer.

    That is one model under names of another library; nothing is paired where it does not come out
    even.
    """
    places_a, places_b = _numbered(a), _numbered(b)
    if len(a) < _FEWEST or places_a.keys() != places_b.keys():
        return {}
    if any(len(names) != len(places_b[key]) for key, names in places_a.items()):
        return {}
    return {
        ".".join(old): ".".join(new)
        for key, names in places_a.items()
        for old, new in zip(names, places_b[key], strict=True)
    }


def _numbered(names: Mapping[Tokens, Hashable]) -> dict[Hashable, list[Tokens]]:
    """Names by what must agree and by the numbers in them, as tokens (`layers.3`)."""
    found: dict[Hashable, list[Tokens]] = {}
    for name, spec in names.items():
        key = (spec, tuple(token for token in name if is_index(token)))
        found.setdefault(key, []).append(name)
    return found


@dataclass(frozen=True, slots=True)
class _Trial:
    """What an edit does: the pairs of names that it makes, and how many of them keep their place.

    Names that it changes into no name of B are its misses.
    """

    edit: Edit
    pairs: tuple[tuple[Tokens, Tokens], ...]
    placed: int
    misses: int

    @property
    def rank(self) -> tuple[int, int, int]:
        return len(self.pairs) - self.misses, self.placed, -int(self.edit.has_numbers)


class _Search:
    """Takes names out of both sides, edit by edit, the one that explains most names first."""

    def __init__(self, a: dict[Tokens, Hashable], b: dict[Tokens, Hashable]) -> None:
        self.a = a
        self.b = b
        self.tried = 0

    def next(self) -> tuple[tuple[Tokens, Tokens], ...]:
        """Return the pairs of the best edit, and forget their names; nothing if none is good."""
        if not self.a or not self.b or self.tried > _MOST_TRIED:
            return ()
        by_spec = _places(self.b)
        places = {name: place for name, _, place in _ranked(self.a)}
        trials = [self._try(edit, places, by_spec) for edit in self._candidates(places, by_spec)]
        for trial in sorted(trials, key=lambda trial: trial.rank, reverse=True):
            if self._convinces(trial, by_spec):
                for old, new in trial.pairs:
                    del self.a[old], self.b[new]
                return trial.pairs
        return ()

    def _candidates(
        self, places: Mapping[Tokens, int], by_spec: Mapping[Hashable, Sequence[Tokens]]
    ) -> list[Edit]:
        """The edits that most of a sample of names ask for."""
        names = list(self.a)
        votes: Counter[Edit] = Counter()
        for name in names[:: max(1, len(names) // _SAMPLES)]:
            others = by_spec.get(self.a[name], ())
            place = places[name]
            near = [*others[place : place + 1], *_alike(name, others)]
            for other in dict.fromkeys(near):
                made = edits_between(name, other)
                votes.update(made if len(made) == 1 else ())
        return [edit for edit, _ in votes.most_common(_MOST_EDITS)]

    def _try(
        self,
        edit: Edit,
        places: Mapping[Tokens, int],
        by_spec: Mapping[Hashable, Sequence[Tokens]],
    ) -> _Trial:
        self.tried += len(self.a)
        pairs, placed, misses = [], 0, 0
        for name, spec in self.a.items():
            made = edit.apply(name)
            if made is None:
                continue
            if self.b.get(made) != spec:
                misses += 1
                continue
            pairs.append((name, made))
            others = by_spec[spec]
            placed += places[name] < len(others) and others[places[name]] == made
        if len({new for _, new in pairs}) < len(pairs):
            pairs, placed = [], 0
        return _Trial(edit, tuple(pairs), placed, misses)

    def _convinces(self, trial: _Trial, by_spec: Mapping[Hashable, Sequence[Tokens]]) -> bool:
        """Whether it is a system, or one pair that no other pair rivals."""
        count = len(trial.pairs)
        if not count or trial.misses >= count:
            return False
        if count > 1 and not trial.edit.has_numbers:
            return 2 * trial.placed >= count
        if count > 2:
            return trial.placed == count
        old, new = trial.pairs[0]
        spec = self.a[old]
        alone = len(by_spec[spec]) == 1 == list(self.a.values()).count(spec)
        kept = len(set(old) & set(new)) >= max(len(old), len(new)) - 1
        return count == 1 and alone and trial.placed == 1 and kept and len(old) > 1


def _places(names: Mapping[Tokens, Hashable]) -> dict[Hashable, list[Tokens]]:
    found: dict[Hashable, list[Tokens]] = {}
    for name, spec in names.items():
        found.setdefault(spec, []).append(name)
    return found


def _ranked(names: Mapping[Tokens, Hashable]) -> list[tuple[Tokens, Hashable, int]]:
    """Each name with the how-manieth of its shape it is."""
    seen: Counter[Hashable] = Counter()
    found = []
    for name, spec in names.items():
        found.append((name, spec, seen[spec]))
        seen[spec] += 1
    return found


def _alike(name: Tokens, others: Sequence[Tokens]) -> list[Tokens]:
    """The names that share most tokens, of those that are looked at."""
    own = set(name)
    near = others[:: max(1, len(others) // 256)]
    return sorted(near, key=lambda other: -len(own.intersection(other)))[:_NEIGHBOURS]
