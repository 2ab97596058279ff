"""What renames have in common: rules, and the edits that make them.

The edits are those of `dcpctl rename`, which takes names first, then prefixes, then expressions,
each on what the one before it left, and lets an optimizer's names follow the model's; and of
`dcpctl upgrade` for an optimizer whose keys have another form.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dcpctl.diff.edit_rules import replaced_words, rules_of
from dcpctl.diff.identity import common_head
from dcpctl.diff.named_keys import NamedKey, named_keys
from dcpctl.diff.subject import Subject
from dcpctl.model.fqn import DDP_WRAPPER, WRAPPERS, is_index
from dcpctl.model.name_edits import ANY_NUMBER, Edit, Tokens, distance, edits_between
from dcpctl.model.optimizer.source import FLAT, INDEXED
from dcpctl.model.rename_rules import Literal, Prefix, Regex, Renaming, Rule

Pairs = Sequence[tuple[str, str]]
Names = Counter[tuple[Tokens, Tokens]]

#: Beyond so many rules there is no system to be told.
_MOST_RULES = 64


@dataclass(frozen=True, slots=True)
class RenameRule:
    """A rewrite that several renames are.

    Attributes:
        old: what goes, as a person writes it: `model.`, `layers`; empty where something is put in.
        new: what takes its place; empty where something is taken out.
        keys: entries of A that it renames.
    """

    old: str
    new: str
    keys: int


@dataclass(frozen=True, slots=True)
class Explained:
    """What all renames together are.

    Attributes:
        rules: that of most keys first.
        renames: ways of which the first that makes the renames is meant; empty if there are none
            to make.
        keys: how an upgrade that makes the rest is to name parameters in the optimizer; None if
            there is no rest.
        formed: the keys of A that the upgrade is to name.
        wraps: the renames put in names of wrappers, which an upgrade would take out again.
    """

    rules: tuple[RenameRule, ...] = ()
    renames: tuple[Renaming, ...] = ()
    keys: str | None = None
    formed: frozenset[str] = frozenset()
    wraps: bool = False


def explain(a: Subject, b: Subject, pairs: Pairs) -> Explained:
    """Find the rules that make the second key of each pair of the first."""
    whole = _moved_whole(a, b, pairs)
    if whole is not None:
        head: Rule = Prefix(whole.old, whole.new)
        if not whole.old:
            head = Regex(re.compile("^"), whole.new.replace("\\", r"\\"))
        return Explained((whole,), (Renaming((head,)),))
    of_a, of_b = named_keys(a), named_keys(b)
    named: list[tuple[NamedKey, NamedKey]] = []
    odd: list[tuple[str, str]] = []
    formed: list[str] = []
    for old, new in pairs:
        if old not in of_a or new not in of_b:
            odd.append((old, new))
        elif of_a[old].same_form(of_b[new]):
            named.append((of_a[old], of_b[new]))
        else:
            formed.append(old)
    roots = Counter((old.root, new.root) for old, new in named if old.root != new.root)
    steps = list(_steps(named))
    rules = [RenameRule(_dotted(old), _dotted(new), keys) for (old, new), keys in roots.items()]
    rules += [RenameRule(*replaced_words(step.edit), step.keys) for step in steps]
    rules += [RenameRule(old, new, 1) for old, new in odd]
    keys = None
    if formed:
        rules.append(RenameRule(a.view.style, b.view.style, len(formed)))
        keys = _form(b.view.style)
    rules.sort(key=lambda rule: -rule.keys)
    moves = [Prefix(_dotted(old), _dotted(new)) for old, new in roots]
    literals = [Literal(old, new) for old, new in odd]
    root = b.sections.model_root
    ways = [
        _in_order(
            [*literals, *moves, *(r for s in steps for r in rules_of(s.edit, s.names, root, full))]
        )
        for full in (False, True)
    ]
    renames = (Renaming(ways[0]), Renaming(ways[1], keys_only=True)) if ways[0] else ()
    wraps = any(token in (*WRAPPERS, DDP_WRAPPER) for step in steps for token in step.edit.new)
    return Explained(tuple(rules), renames, keys, frozenset(formed), wraps)


def _in_order(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Rules as a command line has them: names, prefixes, expressions."""
    kinds = (Literal, Prefix, Regex)
    return tuple(sorted(rules, key=lambda rule: kinds.index(type(rule))))


def _dotted(root: str) -> str:
    return f"{root}." if root else ""


def _form(style: str) -> str:
    """What `dcpctl upgrade --optimizer-keys` calls a style."""
    return "index" if style == INDEXED else "flat" if style == FLAT else "fqn"


def _moved_whole(a: Subject, b: Subject, pairs: Pairs) -> RenameRule | None:
    """The rule where all keys of a checkpoint got, lost or changed their first component."""
    old, new = common_head(a.entries), common_head(b.entries)
    if old == new or len(pairs) < len(a.entries) or not a.sections.optimizers:
        return None
    if any(one[len(old) :] != other[len(new) :] for one, other in pairs):
        return None
    return RenameRule(old, new, len(pairs))


@dataclass(frozen=True, slots=True)
class _Step:
    """An edit of the names of parameters, on what the edits before it left.

    Attributes:
        edit: what it does.
        keys: entries whose names it edits.
        names: the names before.
    """

    edit: Edit
    keys: int
    names: tuple[Tokens, ...]


def _steps(pairs: Iterable[tuple[NamedKey, NamedKey]]) -> Iterator[_Step]:
    """Edits that together make all names in B of those in A, the most frequent first."""
    left: Names = Counter()
    for old, new in pairs:
        if old.name != new.name:
            left[_pattern(old.tokens, new.tokens)] += 1
    for _ in range(_MOST_RULES):
        votes: Counter[Edit] = Counter()
        for (old_name, new_name), keys in left.items():
            for edit in dict.fromkeys(edits_between(old_name, new_name)):
                votes[edit] += keys
        if not votes:
            return
        step, left = _taken(votes.most_common(1)[0][0], left)
        if not step.keys:
            return
        yield step


def _taken(edit: Edit, left: Names) -> tuple[_Step, Names]:
    """Apply an edit to the names that it brings nearer to what they are in B."""
    keys, names = 0, []
    after: Names = Counter()
    for (old, new), count in left.items():
        made = edit.apply(old)
        if made is None or distance(made, new) >= distance(old, new):
            after[old, new] += count
            continue
        keys += count
        names.append(old)
        if made != new:
            after[made, new] += count
    return _Step(edit, keys, tuple(names)), after


def _pattern(old: Tokens, new: Tokens) -> tuple[Tokens, Tokens]:
    """The pair with `#` for the numbers, where those stay: all layers are one pair then."""
    numbers = [token for token in old if is_index(token)]
    if numbers != [token for token in new if is_index(token)]:
        return old, new
    return _generalised(old), _generalised(new)


def _generalised(name: Tokens) -> Tokens:
    return tuple(ANY_NUMBER if is_index(token) else token for token in name)
